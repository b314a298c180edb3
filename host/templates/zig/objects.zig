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
    .{ .verbs = &[_:null]?[*:0]const u8{ "create", "get", "list", "watch" }, .resources = &[_:null]?[*:0]const u8{ "configmaps", "deployments" } },
};

export const policy = c.struct_policy{
    .name = "policy-name",
    .version = "0.1.0",
    .summary = "Has each team see its own objects",
    .settings = &settings,
    .settings_count = settings.len,
    .rules = &rules,
    .rules_count = rules.len,
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

// Before anything reaches the cluster.
fn onRequest(request: [*c]const c.request_t) callconv(.c) c.verdict_t {
    const operation = request.*.operation.*;
    if (!c.text_is(operation.verb, "create") or c.request_is_in(request, groups)) return c.allow();
    const team = if (request.*.body != null) teamOf(request.*.body.*) else c.text("");
    if (team.len == 0) {
        const hint = c.text_format("put %.*s: YOUR-TEAM into metadata.labels", length(label), label.ptr);
        return c.block(c.text_format("what is created needs the label %.*s", length(label), label.ptr), hint);
    }
    if (isOf(request, team)) return c.allow();
    const username = operation.caller.username;
    const reason = c.text_format("%.*s is not of the team %.*s", length(username), username.ptr, length(team), team.ptr);
    return c.block(reason, c.text(""));
}

// Each object that comes back: of a get, of a list, of a watch. What is blocked here is left out.
fn onObject(request: [*c]const c.request_t, document: c.document_t) callconv(.c) c.verdict_t {
    const team = teamOf(document);
    if (team.len == 0 or isOf(request, team) or c.request_is_in(request, groups)) return c.allow();
    return c.block(c.text_format("it is of the team %.*s", length(team), team.ptr), c.text(""));
}

fn length(text: c.text_t) c_int {
    return @intCast(text.len);
}
