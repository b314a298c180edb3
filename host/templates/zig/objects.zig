// policy-name: has each team see its own objects.
const c = @import("postern.zig"); // made of postern.h by `zig translate-c`

var label: c.text_t = undefined;
var groups: c.texts_t = undefined;

// What stands under `settings` in the file beside the module. What is not there is not taken.
const settings = [_]c.struct_setting{
    .{ .name = "label", .kind = c.TEXT, .value = @ptrCast(&label), .standard = "\"team\"", .description = "The label that says whose an object is" },
    .{ .name = "groups", .kind = c.TEXTS, .value = @ptrCast(&groups), .standard = "[\"sre\"]", .description = "Groups that see, and create, everything" },
};

// Which operations it is asked about; a list that is not there means any.
const rules = [_]c.struct_rule{
    .{ .resources = &[_:null]?[*:0]const u8{ "configmaps", "deployments", "deployments/status" } },
};

export const policy = c.struct_policy{
    .name = "policy-name",
    .version = "0.1.0",
    .summary = "Has each team see its own objects",
    .settings = &settings,
    .settings_count = settings.len,
    .rules = &rules,
    .rules_count = rules.len,
    // What it must know beside the request: STORED, NAMESPACE, POD.
    .needs = 1 << c.STORED,
    // What it must see beyond who asks for what: BODIES | SECRET_VALUES | STREAMS | COUNTERS. Names and labels are always there.
    .capabilities = 0,
    .on_request = onRequest,
    .on_object = onObject,
};

// The team an object is of; empty where it is of none.
fn teamOf(document: c.document_t) c.text_t {
    const path = c.text_format("$.metadata.labels['%.*s']", length(label), label.ptr);
    return c.document_text(document, path.ptr);
}

fn isOf(request: [*c]const c.request_t, team: c.text_t) bool {
    var one = team;
    return c.request_is_in(request, .{ .ptr = &one, .len = 1 });
}

fn verbIs(request: [*c]const c.request_t, verb: [*c]const u8) bool {
    var one = c.text(verb);
    return c.request_is(request, c.TEXT_VERB, .{ .ptr = &one, .len = 1 }, null);
}

// Before anything reaches the cluster.
fn onRequest(request: [*c]const c.request_t) callconv(.c) c.verdict_t {
    const reads = verbIs(request, "get") or verbIs(request, "list") or verbIs(request, "watch");
    if (reads or c.request_is_in(request, groups)) return c.allow();
    if (verbIs(request, "deletecollection")) {
        return c.block(c.text("many objects at once may be of several teams"), c.text("delete them by name"));
    }
    var stored: c.document_t = undefined;
    const is_there = c.request_around(request, c.STORED, &stored);
    const owner = if (is_there) teamOf(stored) else c.text("");
    if (owner.len > 0 and !isOf(request, owner)) {
        return c.block(c.text_format("it is of the team %.*s", length(owner), owner.ptr), c.text(""));
    }
    // A patch creates what is not there, by server-side apply.
    if (verbIs(request, "delete") or (is_there and verbIs(request, "patch"))) return c.allow();
    const team = if (request.*.body != null) teamOf(request.*.body.*) else c.text("");
    if (team.len == 0) {
        const hint = c.text_format("put %.*s: YOUR-TEAM into metadata.labels", length(label), label.ptr);
        return c.block(c.text_format("what is created needs the label %.*s", length(label), label.ptr), hint);
    }
    if (isOf(request, team)) return c.allow();
    const username = c.request_username(request);
    const reason = c.text_format("%.*s is not of the team %.*s", length(username), username.ptr, length(team), team.ptr);
    return c.block(reason, c.text(""));
}

// Each object that comes back: of a get, a list, a watch, a change. What is blocked here is left out.
fn onObject(request: [*c]const c.request_t, document: c.document_t) callconv(.c) c.verdict_t {
    const team = teamOf(document);
    if (team.len == 0 or isOf(request, team) or c.request_is_in(request, groups)) return c.allow();
    return c.block(c.text_format("it is of the team %.*s", length(team), team.ptr), c.text(""));
}

fn length(text: c.text_t) c_int {
    return @intCast(text.len);
}
