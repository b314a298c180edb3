#include "postern.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What a policy prints is told when it is printed: what a buffer holds when a call ends, or traps, nobody sees.
__attribute__((constructor)) static void unbuffered(void) { setvbuf(stdout, NULL, _IONBF, 0); }

// Memory that is not there ends the call: in WebAssembly address 0 could be written to.
static void *room(size_t size) {
  void *made = malloc(size ? size : 1);
  if (!made) __builtin_trap();
  return made;
}

static text_t copy(const char *from, size_t length) {
  text_t made = {room(length), length};
  if (length) memcpy(made.ptr, from, length);
  return made;
}

text_t text(const char *from) { return copy(from, strlen(from)); }

text_t text_format(const char *format, ...) {
  va_list list, again;
  va_start(list, format);
  va_copy(again, list);
  int length = vsnprintf(NULL, 0, format, list);
  char *made = room((size_t)length + 1);
  vsnprintf(made, (size_t)length + 1, format, again);
  va_end(list);
  va_end(again);
  return (text_t){(uint8_t *)made, (size_t)length};
}

bool text_is(text_t a, const char *b) { return a.len == strlen(b) && memcmp(a.ptr, b, a.len) == 0; }

bool text_equal(text_t a, text_t b) { return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0; }

texts_t texts(const char *const *list) {
  size_t count = 0;
  while (list && list[count]) count++;
  texts_t made = {room(sizeof(text_t) * count), count};
  for (size_t n = 0; n < count; n++) made.ptr[n] = text(list[n]);
  return made;
}

bool texts_have(texts_t list, text_t one) {
  for (size_t n = 0; n < list.len; n++)
    if (text_equal(list.ptr[n], one)) return true;
  return false;
}

text_t texts_joined(texts_t list) {
  size_t length = 0;
  for (size_t n = 0; n < list.len; n++) length += list.ptr[n].len + (n ? 2 : 0);
  text_t joined = {room(length), 0};
  for (size_t n = 0; n < list.len; n++) {
    if (n) memcpy(joined.ptr + joined.len, ", ", 2), joined.len += 2;
    if (list.ptr[n].len) memcpy(joined.ptr + joined.len, list.ptr[n].ptr, list.ptr[n].len);
    joined.len += list.ptr[n].len;
  }
  return joined;
}

// As much of JSON as settings need: an object of texts, numbers, flags and lists of texts.
struct reader {
  const char *at, *end;
};

static void skip(struct reader *in) {
  while (in->at < in->end && strchr(" \t\r\n", *in->at)) in->at++;
}

static bool take(struct reader *in, char c) {
  skip(in);
  if (in->at >= in->end || *in->at != c) return false;
  in->at++;
  return true;
}

static bool take_word(struct reader *in, const char *word) {
  skip(in);
  size_t length = strlen(word);
  if ((size_t)(in->end - in->at) < length || memcmp(in->at, word, length) != 0) return false;
  in->at += length;
  return true;
}

// UTF-8 of \uXXXX; halves of a pair are put together.
static void put(char *out, size_t *length, uint32_t c) {
  if (c < 0x80) out[(*length)++] = (char)c;
  else if (c < 0x800) {
    out[(*length)++] = (char)(0xc0 | c >> 6);
    out[(*length)++] = (char)(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    out[(*length)++] = (char)(0xe0 | c >> 12);
    out[(*length)++] = (char)(0x80 | (c >> 6 & 0x3f));
    out[(*length)++] = (char)(0x80 | (c & 0x3f));
  } else {
    out[(*length)++] = (char)(0xf0 | c >> 18);
    out[(*length)++] = (char)(0x80 | (c >> 12 & 0x3f));
    out[(*length)++] = (char)(0x80 | (c >> 6 & 0x3f));
    out[(*length)++] = (char)(0x80 | (c & 0x3f));
  }
}

static bool take_hex(struct reader *in, uint32_t *c) {
  *c = 0;
  for (int n = 0; n < 4; n++, in->at++) {
    if (in->at >= in->end) return false;
    const char *digits = "0123456789abcdef", *found = strchr(digits, *in->at | 0x20);
    if (!found || !*in->at) return false;
    *c = *c << 4 | (uint32_t)(found - digits);
  }
  return true;
}

static bool take_text(struct reader *in, text_t *made) {
  if (!take(in, '"')) return false;
  char *out = room((size_t)(in->end - in->at) + 4);
  size_t length = 0;
  while (in->at < in->end && *in->at != '"') {
    if (*in->at != '\\') {
      out[length++] = *in->at++;
      continue;
    }
    if (++in->at >= in->end) return false;
    char c = *in->at++;
    const char *names = "\"\\/bfnrt", *found = strchr(names, c), *values = "\"\\/\b\f\n\r\t";
    if (c == 'u') {
      uint32_t code, low;
      if (!take_hex(in, &code)) return false;
      if (code >= 0xd800 && code < 0xdc00 && take_word(in, "\\u") && take_hex(in, &low))
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
      put(out, &length, code);
    } else if (c && found) out[length++] = values[found - names];
    else return false;
  }
  if (!take(in, '"')) return false;
  *made = (text_t){(uint8_t *)out, length};
  return true;
}

static bool take_texts(struct reader *in, texts_t *made) {
  if (!take(in, '[')) return false;
  *made = (texts_t){room(sizeof(text_t)), 0};
  if (take(in, ']')) return true;
  do {
    made->ptr = realloc(made->ptr, sizeof(text_t) * (made->len + 1));
    if (!made->ptr) __builtin_trap();
    if (!take_text(in, &made->ptr[made->len++])) return false;
  } while (take(in, ','));
  return take(in, ']');
}

static bool take_number(struct reader *in, uint64_t *made) {
  skip(in);
  const char *start = in->at;
  for (*made = 0; in->at < in->end && *in->at >= '0' && *in->at <= '9'; in->at++) {
    if (*made > (UINT64_MAX - 9) / 10) return false;
    *made = *made * 10 + (uint64_t)(*in->at - '0');
  }
  return in->at > start && (in->at == in->end || !strchr(".eE", *in->at));
}

static bool take_flag(struct reader *in, bool *made) {
  *made = take_word(in, "true");
  return *made || take_word(in, "false");
}

static bool take_value(struct reader *in, const struct setting *setting) {
  switch (setting->kind) {
  case TEXTS: return take_texts(in, setting->value);
  case TEXT: return take_text(in, setting->value);
  case NUMBER: return take_number(in, setting->value);
  default: return take_flag(in, setting->value);
  }
}

static const char *const KINDS[] = {"a list of texts", "a text", "a number", "true or false"};

static bool settings_given(text_t json, bool *given, text_t *why) {
  struct reader in = {(const char *)json.ptr, (const char *)json.ptr + json.len};
  *why = text("the settings are no JSON");
  if (!take(&in, '{')) return false;
  if (take(&in, '}')) return true;
  do {
    text_t name;
    if (!take_text(&in, &name) || !take(&in, ':')) return false;
    size_t found = 0;
    while (found < policy.settings_count && !text_is(name, policy.settings[found].name)) found++;
    if (found == policy.settings_count) {
      *why = text_format("%.*s is not known", SHOWN(name));
      return false;
    }
    const struct setting *setting = &policy.settings[found];
    if (!take_value(&in, setting)) {
      *why = text_format("%s: %s is expected", setting->name, KINDS[setting->kind]);
      return false;
    }
    given[found] = true;
  } while (take(&in, ','));
  return take(&in, '}');
}

bool exports_postern_policy_policy_configure(policy_module_string_t *settings, policy_module_string_t *why) {
  bool *given = room((policy.settings_count + 1) * sizeof *given);
  memset(given, 0, (policy.settings_count + 1) * sizeof *given);
  if (!settings_given(*settings, given, why)) return false;
  for (size_t n = 0; n < policy.settings_count; n++) {
    const struct setting *setting = &policy.settings[n];
    if (given[n]) continue;
    struct reader in = {setting->standard, setting->standard ? setting->standard + strlen(setting->standard) : NULL};
    if (setting->standard && take_value(&in, setting)) continue;
    *why = text_format(setting->standard ? "%s: what stands in its place when it is left out is not %s" : "%s is missing: %s",
                       setting->name, KINDS[setting->kind]);
    return false;
  }
  text_t said = text("the policy does not say why");
  if (!policy.configure || policy.configure(&said)) return true;
  *why = copy((const char *)said.ptr, said.len);
  return false;
}

// A text as JSON writes it.
static text_t quoted(const char *from) {
  text_t made = {room(strlen(from) * 2 + 2), 0};
  made.ptr[made.len++] = '"';
  for (; *from; from++) {
    if (*from == '"' || *from == '\\') made.ptr[made.len++] = '\\';
    made.ptr[made.len++] = (uint8_t)*from;
  }
  made.ptr[made.len++] = '"';
  return made;
}

static text_t settings_schema(void) {
  static const char *const TYPES[] = {"\"array\",\"items\":{\"type\":\"string\"}", "\"string\"", "\"integer\",\"minimum\":0", "\"boolean\""};
  text_t schema = text("{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"), required = text("");
  for (size_t n = 0; n < policy.settings_count; n++) {
    const struct setting *setting = &policy.settings[n];
    text_t described = quoted(setting->description);
    schema = text_format("%.*s%s\"%s\":{\"type\":%s,\"description\":%.*s", SHOWN(schema), n ? "," : "", setting->name,
                         TYPES[setting->kind], SHOWN(described));
    if (setting->standard) schema = text_format("%.*s,\"default\":%s}", SHOWN(schema), setting->standard);
    else {
      schema = text_format("%.*s}", SHOWN(schema));
      required = text_format("%.*s%s\"%s\"", SHOWN(required), required.len ? "," : "", setting->name);
    }
  }
  return text_format("%.*s},\"required\":[%.*s]}", SHOWN(schema), SHOWN(required));
}

void exports_postern_policy_policy_describe(manifest_t *manifest) {
  *manifest = (manifest_t){
      .name = text(policy.name),
      .version = text(policy.version),
      .summary = text(policy.summary),
      .hooks = (policy.on_request ? POSTERN_POLICY_TYPES_HOOKS_REQUEST : 0) | (policy.on_object ? POSTERN_POLICY_TYPES_HOOKS_OBJECT : 0) |
               (policy.on_chunk ? POSTERN_POLICY_TYPES_HOOKS_CHUNK : 0),
      .capabilities = (postern_policy_types_capabilities_t)policy.capabilities,
      .settings_schema = settings_schema(),
  };
  manifest->rules.ptr = room(sizeof(*manifest->rules.ptr) * (policy.rules_count + 1));
  manifest->rules.len = policy.rules_count;
  for (size_t n = 0; n < policy.rules_count; n++) {
    const struct rule *rule = &policy.rules[n];
    manifest->rules.ptr[n] = (postern_policy_types_rule_t){texts(rule->verbs), texts(rule->api_groups), texts(rule->resources), texts(rule->namespaces)};
  }
  manifest->needs.ptr = room(POD + 1);
  for (int which = NAMESPACE; which <= POD; which++)
    if (policy.needs & NEEDS(which)) manifest->needs.ptr[manifest->needs.len++] = (postern_policy_types_surrounding_t)which;
}

void exports_postern_policy_policy_on_request(operation_t operation, document_t *body, verdict_t *verdict) {
  const request_t request = {operation, body};
  *verdict = policy.on_request ? policy.on_request(&request) : allow();
}

void exports_postern_policy_policy_on_object(operation_t operation, document_t object, verdict_t *verdict) {
  const request_t request = {operation, NULL};
  *verdict = policy.on_object ? policy.on_object(&request, object) : allow();
}

void exports_postern_policy_policy_on_chunk(operation_t operation, channel_t channel, policy_module_list_u8_t *data, chunk_verdict_t *verdict) {
  const request_t request = {operation, NULL};
  *verdict = policy.on_chunk ? policy.on_chunk(&request, channel, (text_t){data->ptr, data->len}) : forward();
  // The instance stays for the stream: what flows is not to fill it.
  if (data->len) free(data->ptr);
}

static text_t copied(text_t from) { return copy((const char *)from.ptr, from.len); }

static texts_t texts_copied(texts_t from) {
  texts_t made = {room(sizeof(text_t) * (from.len + 1)), from.len};
  for (size_t n = 0; n < from.len; n++) made.ptr[n] = copied(from.ptr[n]);
  return made;
}

// The most entries of a list that the host is asked about at once.
#define MOST_ASKED 1000

// Asks about a list, a part of a long one at a time.
#define FIRST_OF(list, at, ask)                                                                     \
  for (size_t begin = 0; begin < (list).len; begin += MOST_ASKED) {                                 \
    size_t rest = (list).len - begin;                                                               \
    policy_module_list_string_t part = {(list).ptr + begin, rest < MOST_ASKED ? rest : MOST_ASKED}; \
    uint32_t found;                                                                                 \
    if (!(ask)) continue;                                                                           \
    if (at) *(at) = begin + found;                                                                  \
    return true;                                                                                    \
  }                                                                                                 \
  return false

bool request_is(const request_t *request, which_text what, texts_t any_of, size_t *at) {
  FIRST_OF(any_of, at, postern_policy_types_method_operation_is(request->operation, what, &part, &found));
}

bool request_like(const request_t *request, which_text what, texts_t globs, size_t *at) {
  FIRST_OF(globs, at, postern_policy_types_method_operation_like(request->operation, what, &part, &found));
}

bool request_query_like(const request_t *request, const char *key, texts_t globs, size_t *at) {
  text_t named = text(key);
  FIRST_OF(globs, at, postern_policy_types_method_operation_query_like(request->operation, &named, &part, &found));
}

bool request_claim_is(const request_t *request, const char *name, texts_t any_of, size_t *at) {
  text_t named = text(name);
  FIRST_OF(any_of, at, postern_policy_types_method_operation_claim_is(request->operation, &named, &part, &found));
}

bool request_claim_has(const request_t *request, const char *name, texts_t any_of, size_t *at) {
  text_t named = text(name);
  FIRST_OF(any_of, at, postern_policy_types_method_operation_claim_has(request->operation, &named, &part, &found));
}

static bool in_groups(const request_t *request, texts_t groups, size_t *at) {
  FIRST_OF(groups, at, postern_policy_types_method_operation_in_groups(request->operation, &part, &found));
}

bool request_is_in(const request_t *request, texts_t groups) { return in_groups(request, groups, NULL); }

bool request_has(const request_t *request, which_text what) { return postern_policy_types_method_operation_has(request->operation, what); }

bool request_at(const request_t *request, size_t count, const window_t *windows, uint32_t period, int32_t offset, size_t *at) {
  for (size_t begin = 0; begin < count; begin += MOST_ASKED) {
    size_t rest = count - begin;
    policy_module_list_tuple2_u64_u64_t part = {(window_t *)windows + begin, rest < MOST_ASKED ? rest : MOST_ASKED};
    uint32_t found;
    if (!postern_policy_types_method_operation_at(request->operation, &part, period, offset, &found)) continue;
    if (at) *at = begin + found;
    return true;
  }
  return false;
}

bool request_dry_run(const request_t *request) { return postern_policy_types_method_operation_dry_run(request->operation); }

bool request_approved(const request_t *request) { return postern_policy_types_method_operation_approved(request->operation); }

bool request_is_command(const request_t *request) { return postern_policy_types_method_operation_is_command(request->operation); }

text_t request_get(const request_t *request, which_text what) {
  text_t found;
  return postern_policy_types_method_operation_get(request->operation, what, &found) ? found : text("");
}

text_t request_verb(const request_t *request) { return request_get(request, TEXT_VERB); }

text_t request_path(const request_t *request) { return request_get(request, TEXT_PATH); }

text_t request_username(const request_t *request) { return request_get(request, TEXT_USERNAME); }

text_t request_issuer(const request_t *request) { return request_get(request, TEXT_ISSUER); }

text_t request_resource(const request_t *request) { return request_get(request, TEXT_KIND); }

text_t request_namespace(const request_t *request) { return request_get(request, TEXT_NAMESPACE); }

text_t request_object_name(const request_t *request) { return request_get(request, TEXT_NAME); }

texts_t request_groups(const request_t *request) {
  texts_t found;
  postern_policy_types_method_operation_groups(request->operation, &found);
  return found;
}

policy_module_list_tuple2_string_string_t request_claims(const request_t *request) {
  policy_module_list_tuple2_string_string_t found;
  postern_policy_types_method_operation_claims(request->operation, &found);
  return found;
}

policy_module_list_tuple2_string_string_t request_query(const request_t *request) {
  policy_module_list_tuple2_string_string_t found;
  postern_policy_types_method_operation_queries(request->operation, &found);
  return found;
}

texts_t request_query_values(const request_t *request, const char *key) {
  text_t named = text(key);
  texts_t found;
  postern_policy_types_method_operation_query(request->operation, &named, &found);
  return found;
}

text_t request_query_value(const request_t *request, const char *key) {
  texts_t found = request_query_values(request, key);
  return found.len ? found.ptr[0] : text("");
}

text_t request_claim(const request_t *request, const char *name) {
  text_t named = text(name), found;
  return postern_policy_types_method_operation_claim(request->operation, &named, &found) ? found : text("");
}

bool request_command(const request_t *request, command_t *found) {
  return postern_policy_types_method_operation_command(request->operation, found);
}

uint64_t request_received_at(const request_t *request) { return postern_policy_types_method_operation_received_at(request->operation); }

text_t request_id(const request_t *request) {
  text_t found;
  postern_policy_types_method_operation_id(request->operation, &found);
  return found;
}

bool request_around(const request_t *request, enum surrounding which, document_t *found) {
  (void)request;
  postern_policy_host_own_document_t own;
  if (!postern_policy_host_look_around((postern_policy_host_surrounding_t)which, &own)) return false;
  *found = postern_policy_types_borrow_document(own);
  return true;
}

void request_annotate(const request_t *request, const char *key, text_t value) {
  (void)request;
  text_t named = text(key);
  postern_policy_host_annotate(&named, &value);
}

uint64_t request_count(const request_t *request, text_t key, uint64_t amount, uint32_t window_seconds) {
  (void)request;
  return postern_policy_host_count(&key, amount, window_seconds);
}

uint32_t request_spend(const request_t *request, const char *name, uint64_t amount, uint32_t window_seconds, size_t count, const uint64_t *limits) {
  (void)request;
  text_t named = text(name);
  postern_policy_host_amount_t spent = {.tag = POSTERN_POLICY_HOST_AMOUNT_NUMBER, .val.number = amount};
  policy_module_list_u64_t over = {(uint64_t *)limits, count};
  return postern_policy_host_spend(&named, &spent, window_seconds, &over);
}

bool document_is(document_t document, const char *path, texts_t any_of, size_t *at) {
  text_t asked = text(path);
  FIRST_OF(any_of, at, postern_policy_types_method_document_is(document, &asked, &part, &found));
}

uint32_t document_matches(document_t document, const char *path) {
  text_t asked = text(path);
  return postern_policy_types_method_document_matches(document, &asked);
}

text_t document_get(document_t document, const char *path) {
  text_t asked = text(path), found;
  return postern_policy_types_method_document_get(document, &asked, &found) ? found : text("");
}

// The text that JSON writes; false where it is none.
static bool text_of(text_t json, text_t *made) {
  struct reader in = {(const char *)json.ptr, (const char *)json.ptr + json.len};
  return json.len && take_text(&in, made);
}

text_t document_text(document_t document, const char *path) {
  text_t found;
  return text_of(document_get(document, path), &found) ? found : text("");
}

policy_module_list_tuple2_string_string_t document_select(document_t document, const char *path) {
  text_t asked = text(path);
  policy_module_list_tuple2_string_string_t found;
  postern_policy_types_method_document_select(document, &asked, &found);
  return found;
}

texts_t document_texts(document_t document, const char *path) {
  policy_module_list_tuple2_string_string_t found = document_select(document, path);
  texts_t made = {room(sizeof(text_t) * (found.len + 1)), 0};
  for (size_t n = 0; n < found.len; n++)
    if (text_of(found.ptr[n].f1, &made.ptr[made.len])) made.len++;
  return made;
}

text_t document_json(document_t document) {
  text_t json;
  postern_policy_types_method_document_json(document, &json);
  return json;
}

uint64_t document_size(document_t document) { return postern_policy_types_method_document_size(document); }

static postern_policy_types_denial_t denial(text_t reason, text_t hint) {
  postern_policy_types_denial_t made = {.reason = copied(reason)};
  made.hint.is_some = hint.len > 0;
  if (hint.len) made.hint.val = copied(hint);
  return made;
}

verdict_t allow(void) { return (verdict_t){.tag = POSTERN_POLICY_TYPES_VERDICT_ALLOW}; }

verdict_t block(text_t reason, text_t hint) {
  verdict_t verdict = {.tag = POSTERN_POLICY_TYPES_VERDICT_BLOCK};
  verdict.val.block = denial(reason, hint);
  return verdict;
}

verdict_t terminate(text_t reason, text_t hint) {
  verdict_t verdict = {.tag = POSTERN_POLICY_TYPES_VERDICT_TERMINATE};
  verdict.val.terminate = denial(reason, hint);
  return verdict;
}

verdict_t require_approval(text_t reason, texts_t approvers, uint32_t required, uint32_t valid_seconds) {
  verdict_t verdict = {.tag = POSTERN_POLICY_TYPES_VERDICT_REQUIRE_APPROVAL};
  verdict.val.require_approval = (postern_policy_types_approval_t){copied(reason), texts_copied(approvers), required, valid_seconds};
  return verdict;
}

static postern_policy_types_list_condition_t conditions_copied(postern_policy_types_list_condition_t from, size_t more) {
  postern_policy_types_list_condition_t made = {room(sizeof *made.ptr * (from.len + more + 1)), from.len};
  for (size_t n = 0; n < from.len; n++)
    made.ptr[n] = (postern_policy_types_condition_t){copied(from.ptr[n].path), from.ptr[n].is, copied(from.ptr[n].value)};
  return made;
}

static mask_t mask_copied(mask_t mask) {
  switch (mask.what.tag) {
  case POSTERN_POLICY_TYPES_SELECTOR_FIELD: mask.what.val.field = copied(mask.what.val.field); break;
  case POSTERN_POLICY_TYPES_SELECTOR_TEXT: mask.what.val.text = copied(mask.what.val.text); break;
  }
  mask.when = conditions_copied(mask.when, 0);
  return mask;
}

verdict_t mask(size_t count, const mask_t *masks) {
  if (!count) return allow();
  verdict_t verdict = {.tag = POSTERN_POLICY_TYPES_VERDICT_MASK};
  verdict.val.mask = (postern_policy_types_list_mask_t){room(sizeof *masks * count), count};
  // One may be named twice, and each is freed by itself.
  for (size_t n = 0; n < count; n++) verdict.val.mask.ptr[n] = mask_copied(masks[n]);
  return verdict;
}

mask_t field(const char *path) {
  mask_t made = {.what.tag = POSTERN_POLICY_TYPES_SELECTOR_FIELD, .how.tag = POSTERN_POLICY_TYPES_TRANSFORM_REDACT};
  made.what.val.field = text(path);
  return made;
}

mask_t pattern(const char *regex) {
  mask_t made = {.what.tag = POSTERN_POLICY_TYPES_SELECTOR_TEXT, .how.tag = POSTERN_POLICY_TYPES_TRANSFORM_REDACT};
  made.what.val.text = text(regex);
  return made;
}

mask_t pod_secrets(void) {
  return (mask_t){.what.tag = POSTERN_POLICY_TYPES_SELECTOR_POD_SECRETS, .how.tag = POSTERN_POLICY_TYPES_TRANSFORM_REDACT};
}

mask_t mask_tokenize(mask_t mask) {
  mask.how.tag = POSTERN_POLICY_TYPES_TRANSFORM_TOKENIZE;
  return mask;
}

mask_t mask_keep_last(mask_t mask, uint8_t characters) {
  mask.how.tag = POSTERN_POLICY_TYPES_TRANSFORM_KEEP_LAST;
  mask.how.val.keep_last = characters;
  return mask;
}

mask_t mask_remove(mask_t mask) {
  mask.how.tag = POSTERN_POLICY_TYPES_TRANSFORM_REMOVE;
  return mask;
}

// Conditions are copied: a mask that another was made of keeps its own.
static mask_t conditional(mask_t mask, const char *path, postern_policy_types_comparison_t is, const char *value) {
  mask.when = conditions_copied(mask.when, 1);
  mask.when.ptr[mask.when.len++] = (postern_policy_types_condition_t){text(path), is, text(value)};
  return mask;
}

mask_t mask_when(mask_t mask, const char *path, const char *value) {
  return conditional(mask, path, POSTERN_POLICY_TYPES_COMPARISON_EQUAL, value);
}

mask_t mask_unless(mask_t mask, const char *path, const char *value) {
  return conditional(mask, path, POSTERN_POLICY_TYPES_COMPARISON_NOT_EQUAL, value);
}

chunk_verdict_t forward(void) { return (chunk_verdict_t){.tag = POSTERN_POLICY_TYPES_CHUNK_VERDICT_FORWARD}; }

chunk_verdict_t replace(text_t data) {
  chunk_verdict_t verdict = {.tag = POSTERN_POLICY_TYPES_CHUNK_VERDICT_REPLACE};
  text_t made = copied(data);
  verdict.val.replace = (policy_module_list_u8_t){made.ptr, made.len};
  return verdict;
}

chunk_verdict_t end_stream(text_t reason, text_t hint) {
  chunk_verdict_t verdict = {.tag = POSTERN_POLICY_TYPES_CHUNK_VERDICT_TERMINATE};
  verdict.val.terminate = denial(reason, hint);
  return verdict;
}
