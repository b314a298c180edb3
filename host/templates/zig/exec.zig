// policy-name: says which commands run in containers.
const c = @import("postern.zig"); // made of postern.h by `zig translate-c`

var commands: c.texts_t = undefined;
var approvers: c.texts_t = undefined;

// What stands under `settings` in the file beside the module. What is not there is not taken.
const settings = [_]c.struct_setting{
    .{ .name = "commands", .kind = c.TEXTS, .value = @ptrCast(&commands), .standard = "[\"ls\", \"ps\"]", .description = "Commands that run without an approval, by their first word" },
    .{ .name = "approvers", .kind = c.TEXTS, .value = @ptrCast(&approvers), .standard = "[\"sre\"]", .description = "Groups that approve the others" },
};

// Which operations it is asked about; a list that is not there means any.
const rules = [_]c.struct_rule{
    .{ .verbs = &[_:null]?[*:0]const u8{"create"}, .resources = &[_:null]?[*:0]const u8{ "pods/exec", "pods/attach" } },
};

export const policy = c.struct_policy{
    .name = "policy-name",
    .version = "0.1.0",
    .summary = "Says which commands run in containers",
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
    const username = c.request_username(request);
    var asked: c.command_t = undefined;
    const name = c.request_object_name(request);
    // attach has no words: what it reaches runs already.
    if (!c.request_command(request, &asked) or asked.argv.len == 0) {
        const reason = c.text_format("%.*s attaches to %.*s", length(username), username.ptr, length(name), name.ptr);
        return c.require_approval(reason, approvers, 1, 3600);
    }
    const command = asked.argv.ptr[0];
    if (c.texts_have(commands, command)) {
        // And what it writes shows no value of the Secrets that the pod uses.
        return c.mask(1, &c.pod_secrets());
    }
    const runs = "%.*s runs %.*s in %.*s";
    const reason = c.text_format(runs, length(username), username.ptr, length(command), command.ptr, length(name), name.ptr);
    return c.require_approval(reason, approvers, 1, 3600);
}

fn length(text: c.text_t) c_int {
    return @intCast(text.len);
}
