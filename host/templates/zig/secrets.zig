// policy-name: hides the values of Secrets.
const c = @import("postern.zig"); // made of postern.h by `zig translate-c`

var groups: c.texts_t = undefined;

// What stands under `settings` in the file beside the module. What is not there is not taken.
const settings = [_]c.struct_setting{
    .{ .name = "groups", .kind = c.TEXTS, .value = @ptrCast(&groups), .standard = "[\"sre\"]", .description = "Groups that see them" },
};

// Which operations it is asked about; a list that is not there means any.
const rules = [_]c.struct_rule{
    .{ .resources = &[_:null]?[*:0]const u8{"secrets"} },
};

export const policy = c.struct_policy{
    .name = "policy-name",
    .version = "0.1.0",
    .summary = "Hides the values of Secrets",
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
    // Equal values of a Secret are equal tokens. mask_keep_last, mask_remove and mask_when are there too.
    const masks = [_]c.mask_t{ c.mask_tokenize(c.field("$.data.*")), c.mask_tokenize(c.field("$.stringData.*")) };
    return c.mask(masks.len, &masks);
}
