// policy-name: limits how many changes a caller makes.
const c = @import("postern.zig"); // made of postern.h by `zig translate-c`

var per_minute: u64 = undefined;

// What stands under `settings` in the file beside the module. What is not there is not taken.
const settings = [_]c.struct_setting{
    .{ .name = "perMinute", .kind = c.NUMBER, .value = @ptrCast(&per_minute), .standard = "60", .description = "Changes that a caller may make in a minute" },
};

// Which operations it is asked about; a list that is not there means any.
const rules = [_]c.struct_rule{
    .{ .verbs = &[_:null]?[*:0]const u8{ "create", "update", "patch", "delete", "deletecollection" } },
};

export const policy = c.struct_policy{
    .name = "policy-name",
    .version = "0.1.0",
    .summary = "Limits how many changes a caller makes",
    .settings = &settings,
    .settings_count = settings.len,
    .rules = &rules,
    .rules_count = rules.len,
    // What it must see beyond who asks for what: BODIES | SECRET_VALUES | STREAMS | COUNTERS.
    .capabilities = c.COUNTERS,
    .on_request = onRequest,
};

// Before anything reaches the cluster.
fn onRequest(request: [*c]const c.request_t) callconv(.c) c.verdict_t {
    if (c.request_dry_run(request)) return c.allow();
    const so_far: c_ulonglong = c.request_count(request, c.request_username(request), 1, 60);
    const limit: c_ulonglong = per_minute;
    if (so_far <= limit) return c.allow();
    return c.block(c.text_format("%llu changes in a minute are over the limit of %llu", so_far, limit), c.text("wait a minute"));
}
