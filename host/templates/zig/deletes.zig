// policy-name: says who may delete.
const c = @import("postern.zig"); // made of postern.h by `zig translate-c`

var groups: c.texts_t = undefined;

// What stands under `settings` in the file beside the module. What is not there is not taken.
const settings = [_]c.struct_setting{
    .{ .name = "groups", .kind = c.TEXTS, .value = @ptrCast(&groups), .standard = "[\"sre\"]", .description = "Groups that may delete" },
};

// Which operations it is asked about; a list that is not there means any.
const rules = [_]c.struct_rule{
    .{ .verbs = &[_:null]?[*:0]const u8{ "delete", "deletecollection" } },
};

export const policy = c.struct_policy{
    .name = "policy-name",
    .version = "0.1.0",
    .summary = "Says who may delete",
    .settings = &settings,
    .settings_count = settings.len,
    .rules = &rules,
    .rules_count = rules.len,
    // What it must see beyond who asks for what: BODIES | SECRET_VALUES | STREAMS | COUNTERS.
    .capabilities = 0,
    .on_request = onRequest,
};

// Before anything reaches the cluster.
fn onRequest(request: [*c]const c.request_t) callconv(.c) c.verdict_t {
    if (c.request_is_in(request, groups)) return c.allow();
    const username = c.request_username(request);
    const joined = c.texts_joined(groups);
    const hint = c.text_format("ask one of %.*s", length(joined), joined.ptr);
    return c.block(c.text_format("%.*s may not delete", length(username), username.ptr), hint);
}

fn length(text: c.text_t) c_int {
    return @intCast(text.len);
}
