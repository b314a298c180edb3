// Between the contract (wit/policy.wit, policy_module.h) and a policy: short names, settings, and ways to answer.
#ifndef POSTERN_H
#define POSTERN_H

#include "policy_module.h"

typedef policy_module_string_t text_t;
typedef policy_module_list_string_t texts_t;
typedef exports_postern_policy_policy_operation_t operation_t;
typedef exports_postern_policy_policy_verdict_t verdict_t;
typedef exports_postern_policy_policy_manifest_t manifest_t;
typedef exports_postern_policy_policy_chunk_verdict_t chunk_verdict_t;
typedef postern_policy_types_borrow_document_t document_t;

// Texts are copied: what is returned to the host is freed by it.
text_t text(const char *from);
text_t text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool text_is(text_t a, const char *b);
bool text_equal(text_t a, text_t b);
// For "%.*s".
#define SHOWN(text) (int)(text).len, (const char *)(text).ptr

// Lists end with NULL.
texts_t texts(const char *const *list);
bool texts_have(texts_t list, text_t one);
// The texts of a list, with commas between.
text_t texts_joined(texts_t list);

// Settings: a policy names them once, and has them read, checked, and described.
enum kind { TEXTS, TEXT, NUMBER, FLAG };
struct setting {
  const char *name;
  enum kind kind;
  // texts_t, text_t, uint64_t or bool. What it holds before is the default.
  void *value;
  const char *description;
};
// False, and why, where the settings are not what the table says.
bool settings_read(text_t json, const struct setting *table, size_t count, text_t *why);
// Their JSON Schema.
text_t settings_schema(const struct setting *table, size_t count);

// A rule; NULL means any.
postern_policy_types_rule_t rule(const char *const *verbs, const char *const *api_groups, const char *const *resources,
                                 const char *const *namespaces);
void manifest_rules(manifest_t *manifest, size_t count, const postern_policy_types_rule_t *rules);

bool caller_is_in(const operation_t *operation, texts_t groups);
// `pods`, `pods/exec`; empty where no resource is addressed.
text_t resource_of(const operation_t *operation);

verdict_t allow(void);
// With what to do instead; NULL where there is nothing to say.
verdict_t block(text_t reason, const text_t *hint);
verdict_t require_approval(text_t reason, texts_t approvers, uint32_t required, uint32_t valid_seconds);
// Adds to a counter and returns what was counted in the last `window_seconds`; 0 asks without counting.
uint64_t count(text_t key, uint64_t amount, uint32_t window_seconds);

#endif
