#include "postern.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What a policy prints is told when it is printed: what a buffer holds when a call ends, or traps, nobody sees.
__attribute__((constructor)) static void unbuffered(void) { setvbuf(stdout, NULL, _IONBF, 0); }

static text_t copy(const char *from, size_t length) {
  text_t made = {malloc(length ? length : 1), length};
  if (length) memcpy(made.ptr, from, length);
  return made;
}

text_t text(const char *from) { return copy(from, strlen(from)); }

text_t text_format(const char *format, ...) {
  va_list list, again;
  va_start(list, format);
  va_copy(again, list);
  int length = vsnprintf(NULL, 0, format, list);
  char *made = malloc((size_t)length + 1);
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
  texts_t made = {malloc(sizeof(text_t) * (count ? count : 1)), count};
  for (size_t n = 0; n < count; n++) made.ptr[n] = text(list[n]);
  return made;
}

bool texts_have(texts_t list, text_t one) {
  for (size_t n = 0; n < list.len; n++)
    if (text_equal(list.ptr[n], one)) return true;
  return false;
}

text_t texts_joined(texts_t list) {
  text_t joined = text("");
  for (size_t n = 0; n < list.len; n++)
    joined = text_format("%.*s%s%.*s", SHOWN(joined), n ? ", " : "", SHOWN(list.ptr[n]));
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
  char *out = malloc((size_t)(in->end - in->at) + 4);
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
  *made = (texts_t){malloc(sizeof(text_t)), 0};
  if (take(in, ']')) return true;
  do {
    made->ptr = realloc(made->ptr, sizeof(text_t) * (made->len + 1));
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

bool settings_read(text_t json, const struct setting *table, size_t count, text_t *why) {
  struct reader in = {(const char *)json.ptr, (const char *)json.ptr + json.len};
  if (!take(&in, '{')) {
    *why = text("the settings are no object");
    return false;
  }
  if (take(&in, '}')) return true;
  do {
    text_t name;
    if (!take_text(&in, &name) || !take(&in, ':')) {
      *why = text("the settings are no JSON");
      return false;
    }
    const struct setting *found = NULL;
    for (size_t n = 0; n < count; n++)
      if (text_is(name, table[n].name)) found = &table[n];
    if (!found) {
      *why = text_format("%.*s is not known", SHOWN(name));
      return false;
    }
    if (!take_value(&in, found)) {
      *why = text_format("%s: %s is expected", found->name, KINDS[found->kind]);
      return false;
    }
  } while (take(&in, ','));
  if (take(&in, '}')) return true;
  *why = text("the settings are no JSON");
  return false;
}

text_t settings_schema(const struct setting *table, size_t count) {
  static const char *const TYPES[] = {"\"array\",\"items\":{\"type\":\"string\"}", "\"string\"", "\"integer\",\"minimum\":0", "\"boolean\""};
  text_t schema = text("{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{");
  for (size_t n = 0; n < count; n++)
    schema = text_format("%.*s%s\"%s\":{\"type\":%s,\"description\":\"%s\"}", SHOWN(schema), n ? "," : "", table[n].name,
                         TYPES[table[n].kind], table[n].description);
  return text_format("%.*s}}", SHOWN(schema));
}

postern_policy_types_rule_t rule(const char *const *verbs, const char *const *api_groups, const char *const *resources,
                                 const char *const *namespaces) {
  return (postern_policy_types_rule_t){texts(verbs), texts(api_groups), texts(resources), texts(namespaces)};
}

void manifest_rules(manifest_t *manifest, size_t count, const postern_policy_types_rule_t *rules) {
  manifest->rules.ptr = malloc(sizeof(*rules) * (count ? count : 1));
  manifest->rules.len = count;
  if (count) memcpy(manifest->rules.ptr, rules, sizeof(*rules) * count);
}

bool caller_is_in(const operation_t *operation, texts_t groups) {
  for (size_t n = 0; n < operation->caller.groups.len; n++)
    if (texts_have(groups, operation->caller.groups.ptr[n])) return true;
  return false;
}

text_t resource_of(const operation_t *operation) {
  if (!operation->target.is_some) return text("");
  const postern_policy_types_target_t *target = &operation->target.val;
  if (!target->subresource.is_some) return copy((const char *)target->resource.ptr, target->resource.len);
  return text_format("%.*s/%.*s", SHOWN(target->resource), SHOWN(target->subresource.val));
}

verdict_t allow(void) { return (verdict_t){.tag = POSTERN_POLICY_TYPES_VERDICT_ALLOW}; }

verdict_t block(text_t reason, const text_t *hint) {
  verdict_t verdict = {.tag = POSTERN_POLICY_TYPES_VERDICT_BLOCK};
  verdict.val.block.reason = reason;
  verdict.val.block.hint.is_some = hint != NULL;
  if (hint) verdict.val.block.hint.val = *hint;
  return verdict;
}

verdict_t require_approval(text_t reason, texts_t approvers, uint32_t required, uint32_t valid_seconds) {
  verdict_t verdict = {.tag = POSTERN_POLICY_TYPES_VERDICT_REQUIRE_APPROVAL};
  verdict.val.require_approval = (postern_policy_types_approval_t){reason, approvers, required, valid_seconds};
  return verdict;
}

uint64_t count(text_t key, uint64_t amount, uint32_t window_seconds) { return postern_policy_host_count(&key, amount, window_seconds); }
