// Uses every part of contract 0.2 once, as its settings say. It is kept as it was built: see ../README.md.
#include "postern.h"

static text_t does;

static const struct setting SETTINGS[] = {{"does", TEXT, &does, "\"\"", "What it does"}};

static const struct rule RULES[] = {
    {.verbs = LIST("get", "create", "update", "delete"), .api_groups = LIST(""), .resources = LIST("secrets", "pods/*"), .namespaces = LIST("default")},
};

#define NONE text("")

static text_t pairs(policy_module_list_tuple2_string_string_t list) {
  text_t all = NONE;
  for (size_t n = 0; n < list.len; n++) all = text_format("%.*s %.*s=%.*s", SHOWN(all), SHOWN(list.ptr[n].f0), SHOWN(list.ptr[n].f1));
  return all;
}

// What it is told when it asks for values, in one line.
static text_t values(const request_t *r) {
  text_t all = NONE;
  for (which_text what = TEXT_VERB; what <= TEXT_CONTAINER; what++) {
    text_t one = request_get(r, what);
    all = text_format("%.*s%.*s|", SHOWN(all), SHOWN(one));
  }
  text_t groups = texts_joined(request_groups(r)), claims = pairs(request_claims(r)), query = pairs(request_query(r)), claim = request_claim(r, "sub");
  text_t values = texts_joined(request_query_values(r, "command"));
  command_t command = {0};
  bool is = request_command(r, &command);
  text_t argv = texts_joined(command.argv), container = command.container.is_some ? command.container.val : NONE;
  return text_format("%.*s groups %.*s; claims%.*s; sub %.*s; query%.*s; command %.*s; %d %.*s in %.*s, stdin %d, tty %d; at %llu; id %d", SHOWN(all), SHOWN(groups),
                     SHOWN(claims), SHOWN(claim), SHOWN(query), SHOWN(values), is, SHOWN(argv), SHOWN(container), is && command.stdin_, is && command.tty,
                     (unsigned long long)request_received_at(r), request_id(r).len > 0);
}

static int placed(bool is, size_t at) { return is ? (int)at : -1; }

// What it is told when it tests, in one line: a place, or -1.
static text_t tests(const request_t *r) {
  size_t at = 0;
  const window_t noon[] = {{0, 43200}, {43200, 46800}};
  int group = placed(request_is_in(r, texts(LIST("x", "b"))), 0);
  int is = placed(request_is(r, TEXT_KIND, texts(LIST("pods", "pods/exec")), &at), at);
  int like = placed(request_like(r, TEXT_PLACE, texts(LIST("other/*", "def*/w*")), &at), at);
  int query = placed(request_query_like(r, "command", texts(LIST("rm*", "-*")), &at), at);
  int claim = placed(request_claim_is(r, "n", texts(LIST("2", "1.0")), &at), at);
  int element = placed(request_claim_has(r, "list", texts(LIST("\"z\"", "\"y\"")), &at), at);
  int window = placed(request_at(r, COUNT(noon), noon, 86400, 0, &at), at);
  return text_format("%d %d %d %d %d %d %d; has %d %d; dry-run %d, approved %d, command %d", group, is, like, query, claim, element, window,
                     request_has(r, TEXT_NAMESPACE), request_has(r, TEXT_CONTAINER), request_dry_run(r), request_approved(r), request_is_command(r));
}

static text_t of_body(document_t body) {
  size_t at = 0;
  text_t first = document_get(body, "$.data.*"), json = document_json(body), all = pairs(document_select(body, "$.data.*"));
  bool is = document_is(body, "$.data.*", texts(LIST("\"z\"", "\"eQ==\"")), &at);
  return text_format("%.*s;%.*s; is %d; %u matches; %.*s of %llu bytes", SHOWN(first), SHOWN(all), placed(is, at), document_matches(body, "$.data.*"),
                     SHOWN(json), (unsigned long long)document_size(body));
}

static text_t around(const request_t *r) {
  text_t all = NONE;
  for (enum surrounding which = NAMESPACE; which <= POD; which++) {
    document_t found;
    text_t name = request_around(r, which, &found) ? document_get(found, "$.metadata.name") : text("none");
    all = text_format("%.*s %.*s", SHOWN(all), SHOWN(name));
  }
  return all;
}

static verdict_t on_request(const request_t *r) {
  mask_t hidden = {0};
  const uint64_t limits[] = {3, 6, 9};
  if (text_is(does, "values")) return block(values(r), NONE);
  if (text_is(does, "tests")) return block(tests(r), NONE);
  if (text_is(does, "body") && r->body) return block(of_body(*r->body), NONE);
  if (text_is(does, "around")) return block(around(r), text("that is all"));
  if (text_is(does, "count")) return block(text_format("%llu", (unsigned long long)request_count(r, text("k"), 3, 60)), NONE);
  if (text_is(does, "spend")) return block(text_format("%u", request_spend(r, "k", 3, 60, COUNT(limits), limits)), NONE);
  if (text_is(does, "spend-of-body") && r->body) {
    // As it is called by what the library does not write.
    postern_policy_host_amount_t size = {.tag = POSTERN_POLICY_HOST_AMOUNT_SIZE_OF, .val.size_of = *r->body};
    postern_policy_host_amount_t matches = {.tag = POSTERN_POLICY_HOST_AMOUNT_MATCHES, .val.matches = {*r->body, text("$.data.*")}};
    policy_module_list_u64_t over = {(uint64_t *)limits, COUNT(limits)};
    text_t bytes = text("bytes"), fields = text("fields");
    unsigned one = postern_policy_host_spend(&bytes, &size, 60, &over), other = postern_policy_host_spend(&fields, &matches, 60, &over);
    return block(text_format("%u %u", one, other), NONE);
  }
  if (text_is(does, "annotate")) request_annotate(r, "key", text("value"));
  if (text_is(does, "approval")) return require_approval(text("somebody must"), texts(LIST("a", "b")), 2, 60);
  if (text_is(does, "redact")) hidden = mask_unless(field("$.data.*"), "$.type", "kept");
  if (text_is(does, "tokenize")) hidden = mask_when(mask_tokenize(field("$.note")), "$.type", "other");
  if (text_is(does, "keep-last")) hidden = mask_keep_last(field("$.note"), 2);
  if (text_is(does, "remove")) hidden = mask_remove(field("$.note"));
  if (text_is(does, "text")) hidden = pattern("secret-[a-z]+");
  if (text_is(does, "pod-secrets")) hidden = pod_secrets();
  return hidden.what.tag || hidden.what.val.field.ptr ? mask(1, &hidden) : allow();
}

static verdict_t on_object(const request_t *r, document_t object) {
  text_t said = document_text(object, "$.say");
  if (text_is(said, "hide")) return block(text("hidden"), NONE);
  if (text_is(said, "end")) return terminate(text_format("the end; approved %d", request_approved(r)), NONE);
  const mask_t note = field("$.note");
  return text_is(said, "mask") ? mask(1, &note) : allow();
}

static chunk_verdict_t on_chunk(const request_t *r, channel_t channel, text_t data) {
  text_t name = request_object_name(r);
  if (data.len && *data.ptr == 'r') return replace(text_format("channel %d of %.*s", channel, SHOWN(name)));
  if (data.len && *data.ptr == 't') return end_stream(text("ended"), NONE);
  return forward();
}

const struct policy policy = {
    .name = "exercise",
    .version = "0.2.0",
    .summary = "Uses every part of the contract once",
    .settings = SETTINGS,
    .settings_count = COUNT(SETTINGS),
    .rules = RULES,
    .rules_count = COUNT(RULES),
    .capabilities = BODIES | SECRET_VALUES | STREAMS | COUNTERS,
    .needs = NEEDS(NAMESPACE) | NEEDS(STORED) | NEEDS(POD),
    .on_request = on_request,
    .on_object = on_object,
    .on_chunk = on_chunk,
};
