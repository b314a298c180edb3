// namespace-fence: some callers reach their own namespaces and nothing beside them.
const std = @import("std");
const c = @import("postern.zig"); // made of postern.h by `zig translate-c`

var groups: c.texts_t = undefined;
var namespaces: c.texts_t = undefined;
var cluster_resources: c.texts_t = undefined;

const settings = [_]c.struct_setting{
    .{ .name = "groups", .kind = c.TEXTS, .value = @ptrCast(&groups), .description = "Groups that are fenced in; every caller when there are none" },
    .{ .name = "namespaces", .kind = c.TEXTS, .value = @ptrCast(&namespaces), .description = "Namespaces they may reach" },
    .{ .name = "clusterResources", .kind = c.TEXTS, .value = @ptrCast(&cluster_resources), .description = "Resources without a namespace that they may get, list and watch, for example nodes" },
};

/// What every client asks for before it does anything, and holds no object of the cluster's.
const discovery = [_][]const u8{ "/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz" };

export fn exports_postern_policy_policy_configure(given: *c.text_t, why: *c.text_t) bool {
    groups = c.texts(null);
    namespaces = c.texts(null);
    cluster_resources = c.texts(null);
    if (!c.settings_read(given.*, &settings, settings.len, why)) return false;
    if (namespaces.len > 0) return true;
    why.* = c.text("namespaces: name at least one");
    return false;
}

export fn exports_postern_policy_policy_describe(manifest: *c.manifest_t) void {
    manifest.* = .{
        .name = c.text("namespace-fence"),
        .version = c.text("0.1.0"),
        .summary = c.text("Keeps callers within their own namespaces"),
        .hooks = c.POSTERN_POLICY_TYPES_HOOKS_REQUEST,
        .capabilities = 0,
        .settings_schema = c.settings_schema(&settings, settings.len),
    };
    c.manifest_rules(manifest, 0, null);
}

export fn exports_postern_policy_policy_on_request(operation: *c.operation_t, _: ?*c.document_t, verdict: *c.verdict_t) void {
    verdict.* = if (passes(operation)) c.allow() else refuse(operation);
}

fn passes(operation: *c.operation_t) bool {
    if (groups.len > 0 and !c.caller_is_in(operation, groups)) return true;
    if (!operation.target.is_some) return isDiscovery(slice(operation.path));
    const target = operation.target.val;
    if (target.namespace_.is_some) return c.texts_have(namespaces, target.namespace_.val);
    // What a caller may do is asked with a review, which every client does: it changes nothing and shows nothing of others.
    const group = slice(target.api_group);
    if (std.mem.eql(u8, group, "authorization.k8s.io") or std.mem.eql(u8, group, "authentication.k8s.io")) {
        return std.mem.startsWith(u8, slice(target.resource), "self");
    }
    const verb = slice(operation.verb);
    const reads = std.mem.eql(u8, verb, "get") or std.mem.eql(u8, verb, "list") or std.mem.eql(u8, verb, "watch");
    return reads and c.texts_have(cluster_resources, c.resource_of(operation));
}

fn isDiscovery(path: []const u8) bool {
    for (discovery) |known| {
        if (!std.mem.startsWith(u8, path, known)) continue;
        if (path.len == known.len or path[known.len] == '/') return true;
    }
    return false;
}

fn refuse(operation: *c.operation_t) c.verdict_t {
    const username = operation.caller.username;
    const joined = c.texts_joined(namespaces);
    const what = if (operation.target.is_some) c.resource_of(operation) else operation.path;
    const hint = c.text_format("name one of these namespaces: %.*s", length(joined), joined.ptr);
    const reason = "%.*s of %.*s is outside the namespaces of %.*s";
    const verb = operation.verb;
    return c.block(c.text_format(reason, length(verb), verb.ptr, length(what), what.ptr, length(username), username.ptr), &hint);
}

fn slice(text: c.text_t) []const u8 {
    return if (text.len == 0) "" else text.ptr[0..text.len];
}

fn length(text: c.text_t) c_int {
    return @intCast(text.len);
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
