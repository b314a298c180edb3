// Uses every part of the contract once, as its settings say. It was built against the released contract and is kept as it was built: see README.md.
#include "postern.h"

#include <stdlib.h>
#include <string.h>

static text_t does;

static const struct setting SETTINGS[] = {{"does", TEXT, &does, "What it does"}};

bool exports_postern_policy_policy_configure(policy_module_string_t *settings, policy_module_string_t *why) {
  does = text("");
  return settings_read(*settings, SETTINGS, 1, why);
}

void exports_postern_policy_policy_describe(manifest_t *manifest) {
  *manifest = (manifest_t){
      .name = text("exercise"),
      .version = text("0.1.0"),
      .summary = text("Uses every part of the contract once"),
      .hooks = POSTERN_POLICY_TYPES_HOOKS_REQUEST | POSTERN_POLICY_TYPES_HOOKS_OBJECT | POSTERN_POLICY_TYPES_HOOKS_CHUNK,
      .capabilities = POSTERN_POLICY_TYPES_CAPABILITIES_BODIES | POSTERN_POLICY_TYPES_CAPABILITIES_SECRET_VALUES |
                      POSTERN_POLICY_TYPES_CAPABILITIES_STREAMS | POSTERN_POLICY_TYPES_CAPABILITIES_COUNTERS,
      .settings_schema = settings_schema(SETTINGS, 1),
  };
  manifest->needs.len = 3;
  manifest->needs.ptr = malloc(3);
  for (uint8_t n = 0; n < 3; n++) manifest->needs.ptr[n] = n;
  const postern_policy_types_rule_t rules[] = {
      rule((const char *const[]){"get", "create", "update", "delete", NULL}, (const char *const[]){"", NULL},
           (const char *const[]){"secrets", "pods/*", NULL}, (const char *const[]){"default", NULL})};
  manifest_rules(manifest, 1, rules);
}

static verdict_t masks(uint8_t what, const char *value, uint8_t how, bool condition) {
  postern_policy_types_mask_t *mask = calloc(1, sizeof *mask);
  mask->what.tag = what;
  if (value) mask->what.val.field = text(value);
  mask->how.tag = how;
  mask->how.val.keep_last = 2;
  if (condition) {
    mask->when.ptr = calloc(1, sizeof *mask->when.ptr);
    mask->when.len = 1;
    *mask->when.ptr = (postern_policy_types_condition_t){text("$.type"), POSTERN_POLICY_TYPES_COMPARISON_NOT_EQUAL, text("kept")};
  }
  verdict_t verdict = {.tag = POSTERN_POLICY_TYPES_VERDICT_MASK};
  verdict.val.mask.ptr = mask;
  verdict.val.mask.len = 1;
  return verdict;
}

// What it was told, in one line.
static text_t told(const operation_t *o) {
  text_t claims = text("");
  for (size_t n = 0; n < o->caller.claims.len; n++)
    claims = text_format("%.*s %.*s=%.*s", SHOWN(claims), SHOWN(o->caller.claims.ptr[n].f0), SHOWN(o->caller.claims.ptr[n].f1));
  text_t query = text("");
  for (size_t n = 0; n < o->query.len; n++)
    query = text_format("%.*s %.*s=%.*s", SHOWN(query), SHOWN(o->query.ptr[n].f0), SHOWN(o->query.ptr[n].f1));
  text_t argv = o->command.is_some ? texts_joined(o->command.val.argv) : text("");
  text_t resource = resource_of(o), groups = texts_joined(o->caller.groups);
  return text_format("%.*s %.*s %.*s at %llu by %.*s (%.*s) of %.*s:%.*s; query%.*s; argv %.*s; tty %d; dry-run %d; approved %d", SHOWN(o->cluster),
                     SHOWN(o->verb), SHOWN(resource), (unsigned long long)o->received_at, SHOWN(o->caller.username), SHOWN(groups),
                     SHOWN(o->caller.issuer), SHOWN(claims), SHOWN(query), SHOWN(argv), o->command.is_some && o->command.val.tty,
                     o->dry_run, o->approved);
}

void exports_postern_policy_policy_on_request(operation_t *operation, document_t *body, verdict_t *verdict) {
  text_t path = text("$.data.*"), found = text("");
  *verdict = allow();
  if (text_is(does, "operation")) *verdict = block(told(operation), NULL);
  if (text_is(does, "get") && body) {
    bool is = postern_policy_types_method_document_get(*body, &path, &found);
    *verdict = block(is ? found : text("nothing"), NULL);
  }
  if (text_is(does, "select") && body) {
    policy_module_list_tuple2_string_string_t all;
    postern_policy_types_method_document_select(*body, &path, &all);
    for (size_t n = 0; n < all.len; n++)
      found = text_format("%.*s %.*s=%.*s", SHOWN(found), SHOWN(all.ptr[n].f0), SHOWN(all.ptr[n].f1));
    *verdict = block(found, NULL);
  }
  if (text_is(does, "json") && body) {
    postern_policy_types_method_document_json(*body, &found);
    *verdict = block(text_format("%.*s of %llu bytes", SHOWN(found), (unsigned long long)postern_policy_types_method_document_size(*body)), NULL);
  }
  if (text_is(does, "around")) {
    for (uint8_t which = 0; which < 3; which++) {
      postern_policy_types_own_document_t document;
      text_t name_path = text("$.metadata.name"), name = text("none");
      if (postern_policy_host_look_around(which, &document)) {
        postern_policy_types_method_document_get(postern_policy_types_borrow_document(document), &name_path, &name);
        postern_policy_types_document_drop_own(document);
      }
      found = text_format("%.*s %.*s", SHOWN(found), SHOWN(name));
    }
    text_t hint = text("that is all");
    *verdict = block(found, &hint);
  }
  if (text_is(does, "annotate")) {
    text_t key = text("key"), value = text("value");
    postern_policy_host_annotate(&key, &value);
  }
  if (text_is(does, "count")) *verdict = block(text_format("%llu", (unsigned long long)count(text("k"), 3, 60)), NULL);
  if (text_is(does, "approval"))
    *verdict = require_approval(text("somebody must"), texts((const char *const[]){"a", "b", NULL}), 2, 60);
  if (text_is(does, "redact")) *verdict = masks(POSTERN_POLICY_TYPES_SELECTOR_FIELD, "$.data.*", POSTERN_POLICY_TYPES_TRANSFORM_REDACT, true);
  if (text_is(does, "keep-last")) *verdict = masks(POSTERN_POLICY_TYPES_SELECTOR_FIELD, "$.note", POSTERN_POLICY_TYPES_TRANSFORM_KEEP_LAST, false);
  if (text_is(does, "remove")) *verdict = masks(POSTERN_POLICY_TYPES_SELECTOR_FIELD, "$.note", POSTERN_POLICY_TYPES_TRANSFORM_REMOVE, false);
  if (text_is(does, "text")) *verdict = masks(POSTERN_POLICY_TYPES_SELECTOR_TEXT, "secret-[a-z]+", POSTERN_POLICY_TYPES_TRANSFORM_REDACT, false);
  if (text_is(does, "pod-secrets")) *verdict = masks(POSTERN_POLICY_TYPES_SELECTOR_POD_SECRETS, NULL, POSTERN_POLICY_TYPES_TRANSFORM_REDACT, false);
}

void exports_postern_policy_policy_on_object(operation_t *operation, document_t object, verdict_t *verdict) {
  text_t path = text("$.say"), said = text("");
  postern_policy_types_method_document_get(object, &path, &said);
  *verdict = allow();
  if (text_is(said, "\"hide\"")) *verdict = block(text("hidden"), NULL);
  if (text_is(said, "\"mask\"")) *verdict = masks(POSTERN_POLICY_TYPES_SELECTOR_FIELD, "$.note", POSTERN_POLICY_TYPES_TRANSFORM_REDACT, false);
  if (text_is(said, "\"end\"")) {
    *verdict = block(text_format("the end; approved %d", operation->approved), NULL);
    verdict->tag = POSTERN_POLICY_TYPES_VERDICT_TERMINATE;
  }
}

void exports_postern_policy_policy_on_chunk(operation_t *operation, exports_postern_policy_policy_channel_t channel,
                                            policy_module_list_u8_t *data, chunk_verdict_t *verdict) {
  (void)operation;
  *verdict = (chunk_verdict_t){.tag = POSTERN_POLICY_TYPES_CHUNK_VERDICT_FORWARD};
  if (data->len && *data->ptr == 'r') {
    text_t with = text_format("channel %d", channel);
    verdict->tag = POSTERN_POLICY_TYPES_CHUNK_VERDICT_REPLACE;
    verdict->val.replace = (policy_module_list_u8_t){with.ptr, with.len};
  }
  if (data->len && *data->ptr == 't') {
    verdict->tag = POSTERN_POLICY_TYPES_CHUNK_VERDICT_TERMINATE;
    verdict->val.terminate = (postern_policy_types_denial_t){text("ended"), {false, {NULL, 0}}};
  }
}
