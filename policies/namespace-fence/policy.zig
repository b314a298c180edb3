// namespace-fence: some callers reach their own namespaces and nothing beside them.
const std = @import("std");
const c = @import("postern.zig"); // made of postern.h by `zig translate-c`

var groups: c.texts_t = undefined;
var namespaces: c.texts_t = undefined;
var cluster_resources: c.texts_t = undefined;

const settings = [_]c.struct_setting{
    .{ .name = "groups", .kind = c.TEXTS, .value = @ptrCast(&groups), .standard = "[]", .description = "Groups that are fenced in; every caller when there are none" },
    .{ .name = "namespaces", .kind = c.TEXTS, .value = @ptrCast(&namespaces), .description = "Namespaces they may reach" },
    .{ .name = "clusterResources", .kind = c.TEXTS, .value = @ptrCast(&cluster_resources), .standard = "[]", .description = "Resources without a namespace that they may get, list and watch, for example nodes" },
};

export const policy = c.struct_policy{
    .name = "namespace-fence",
    .version = "0.1.0",
    .summary = "Keeps callers within their own namespaces",
    .settings = &settings,
    .settings_count = settings.len,
    .configure = configure,
    .on_request = onRequest,
};

/// What every client asks for before it does anything, and holds no object of the cluster's.
const discovery = [_][]const u8{ "/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz" };

fn configure(why: [*c]c.text_t) callconv(.c) bool {
    if (namespaces.len > 0) return true;
    why.* = c.text("namespaces: name at least one");
    return false;
}

fn onRequest(request: [*c]const c.request_t) callconv(.c) c.verdict_t {
    return if (passes(request)) c.allow() else refuse(request);
}

fn passes(request: *const c.request_t) bool {
    const operation = request.operation.*;
    if (groups.len > 0 and !c.request_is_in(request, groups)) return true;
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
    return reads and c.texts_have(cluster_resources, c.request_resource(request));
}

fn isDiscovery(path: []const u8) bool {
    for (discovery) |known| {
        if (!std.mem.startsWith(u8, path, known)) continue;
        if (path.len == known.len or path[known.len] == '/') return true;
    }
    return false;
}

fn refuse(request: *const c.request_t) c.verdict_t {
    const operation = request.operation.*;
    const joined = c.texts_joined(namespaces);
    const what = if (operation.target.is_some) c.request_resource(request) else operation.path;
    const hint = c.text_format("name one of these namespaces: %.*s", length(joined), joined.ptr);
    const reason = "%.*s of %.*s is outside the namespaces of %.*s";
    const verb = operation.verb;
    const username = operation.caller.username;
    return c.block(c.text_format(reason, length(verb), verb.ptr, length(what), what.ptr, length(username), username.ptr), hint);
}

fn slice(text: c.text_t) []const u8 {
    return if (text.len == 0) "" else text.ptr[0..text.len];
}

fn length(text: c.text_t) c_int {
    return @intCast(text.len);
}
