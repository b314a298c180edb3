// namespace-fence: some callers reach their own namespaces and nothing beside them.
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
const discovery = [_:null]?[*:0]const u8{
    "/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", "/version", "/version/*",
    "/healthz", "/healthz/*", "/livez", "/livez/*", "/readyz", "/readyz/*",
};
const reviews = [_:null]?[*:0]const u8{ "authorization.k8s.io", "authentication.k8s.io" };
const own = [_:null]?[*:0]const u8{"self*"};
const reads = [_:null]?[*:0]const u8{ "get", "list", "watch" };

fn configure(why: [*c]c.text_t) callconv(.c) bool {
    if (namespaces.len > 0) return true;
    why.* = c.text("namespaces: name at least one");
    return false;
}

fn onRequest(request: [*c]const c.request_t) callconv(.c) c.verdict_t {
    return if (passes(request)) c.allow() else refuse(request);
}

fn passes(request: *const c.request_t) bool {
    if (groups.len > 0 and !c.request_is_in(request, groups)) return true;
    if (!c.request_has(request, c.TEXT_KIND)) return c.request_like(request, c.TEXT_PATH, list(&discovery), null);
    if (c.request_has(request, c.TEXT_NAMESPACE)) return c.request_is(request, c.TEXT_NAMESPACE, namespaces, null);
    // What a caller may do is asked with a review, which every client does: it changes nothing and shows nothing of others.
    if (c.request_is(request, c.TEXT_API_GROUP, list(&reviews), null)) return c.request_like(request, c.TEXT_RESOURCE, list(&own), null);
    return c.request_is(request, c.TEXT_VERB, list(&reads), null) and c.request_is(request, c.TEXT_KIND, cluster_resources, null);
}

fn list(of: [*c]const [*c]const u8) c.texts_t {
    return c.texts(of);
}

fn refuse(request: *const c.request_t) c.verdict_t {
    const joined = c.texts_joined(namespaces);
    const what = if (c.request_has(request, c.TEXT_KIND)) c.request_resource(request) else c.request_path(request);
    const hint = c.text_format("name one of these namespaces: %.*s", length(joined), joined.ptr);
    const reason = "%.*s of %.*s is outside the namespaces of %.*s";
    const verb = c.request_verb(request);
    const username = c.request_username(request);
    return c.block(c.text_format(reason, length(verb), verb.ptr, length(what), what.ptr, length(username), username.ptr), hint);
}

fn length(text: c.text_t) c_int {
    return @intCast(text.len);
}
