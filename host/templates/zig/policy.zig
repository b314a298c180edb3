// policy-name: says who may delete.
const c = @import("postern.zig"); // made of postern.h by `zig translate-c`

var groups: c.texts_t = undefined;

const settings = [_]c.struct_setting{
    .{ .name = "groups", .kind = c.TEXTS, .value = @ptrCast(&groups), .description = "Groups that may delete" },
};

// Called once, with what stands under `settings` in the file beside the module.
export fn exports_postern_policy_policy_configure(given: *c.text_t, why: *c.text_t) bool {
    groups = c.texts(&[_:null]?[*:0]const u8{"sre"});
    return c.settings_read(given.*, &settings, settings.len, why);
}

export fn exports_postern_policy_policy_describe(manifest: *c.manifest_t) void {
    manifest.* = .{
        .name = c.text("policy-name"),
        .version = c.text("0.1.0"),
        .summary = c.text("Says who may delete"),
        .hooks = c.POSTERN_POLICY_TYPES_HOOKS_REQUEST,
        // What it must see beyond who asks for what: bodies, secret values, streams, counters.
        .capabilities = 0,
        .settings_schema = c.settings_schema(&settings, settings.len),
    };
    // Which operations it is asked about; null means any.
    const rules = [_]c.postern_policy_types_rule_t{
        c.rule(&[_:null]?[*:0]const u8{ "delete", "deletecollection" }, null, null, null),
    };
    c.manifest_rules(manifest, rules.len, &rules);
}

// Before anything reaches the cluster.
export fn exports_postern_policy_policy_on_request(operation: *c.operation_t, _: ?*c.document_t, verdict: *c.verdict_t) void {
    if (c.caller_is_in(operation, groups)) {
        verdict.* = c.allow();
        return;
    }
    const username = operation.caller.username;
    const joined = c.texts_joined(groups);
    const hint = c.text_format("ask one of %.*s", @as(c_int, @intCast(joined.len)), joined.ptr);
    verdict.* = c.block(c.text_format("%.*s may not delete", @as(c_int, @intCast(username.len)), username.ptr), &hint);
}

export fn exports_postern_policy_policy_on_object(_: *c.operation_t, _: c.document_t, verdict: *c.verdict_t) void {
    verdict.* = c.allow();
}

export fn exports_postern_policy_policy_on_chunk(
    _: *c.operation_t,
    _: c.exports_postern_policy_policy_channel_t,
    _: *c.policy_module_list_u8_t,
    verdict: *c.chunk_verdict_t,
) void {
    verdict.* = .{ .tag = c.POSTERN_POLICY_TYPES_CHUNK_VERDICT_FORWARD };
}
