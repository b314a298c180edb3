// Between the contract (wit/policy.wit, policy_module.h) and a policy: what it is asked with, and short ways to answer.
#ifndef POSTERN_H
#define POSTERN_H

#include "policy_module.h"

typedef policy_module_string_t text_t;
typedef policy_module_list_string_t texts_t;
typedef exports_postern_policy_policy_borrow_operation_t operation_t;
typedef postern_policy_types_command_t command_t;
typedef postern_policy_types_text_t which_text;
typedef exports_postern_policy_policy_verdict_t verdict_t;
typedef exports_postern_policy_policy_manifest_t manifest_t;
typedef exports_postern_policy_policy_chunk_verdict_t chunk_verdict_t;
typedef exports_postern_policy_policy_channel_t channel_t;
typedef postern_policy_types_borrow_document_t document_t;
typedef postern_policy_types_mask_t mask_t;

// Texts. Whatever is made or answered is copied: nothing here must be freed, as each operation begins from the same memory. A stream has one memory from its
// beginning to its end: what on_chunk makes stays there unless it is freed (`free(made.ptr)`), and its data is there for the call.
text_t text(const char *from);
// A zero follows, which its length does not count.
text_t text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool text_is(text_t a, const char *b);
bool text_equal(text_t a, text_t b);
// For "%.*s".
#define SHOWN(text) (int)(text).len, (const char *)(text).ptr

// Lists of texts; those in the source end with NULL.
#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
texts_t texts(const char *const *list);
bool texts_have(texts_t list, text_t one);
// The texts of a list, with commas between.
text_t texts_joined(texts_t list);

// Settings: a policy names them once, and has them read, checked, and described.
enum kind { TEXTS, TEXT, NUMBER, FLAG };
struct setting {
  const char *name;
  enum kind kind;
  // A texts_t, text_t, uint64_t or bool that takes it.
  void *value;
  // As JSON, what it is where it is left out; NULL where it must not be.
  const char *standard;
  const char *description;
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

// Which operations a policy is asked about; a list that is NULL means any.
struct rule {
  const char *const *verbs, *const *api_groups, *const *resources, *const *namespaces;
};

// What a policy must see, or do, beyond who asks for what.
enum capability { BODIES = 1, SECRET_VALUES = 2, STREAMS = 4, COUNTERS = 8 };
// An object beside an operation: the Namespace that is addressed, the object as it is stored, the pod that a stream goes to.
enum surrounding { NAMESPACE, STORED, POD };
#define NEEDS(which) (1 << (which))

// An operation, which is asked about, and its body; NULL where there is none.
typedef struct request {
  operation_t operation;
  const document_t *body;
} request_t;

// A policy. Hooks that are NULL are not called.
struct policy {
  const char *name, *version, *summary;
  const struct setting *settings;
  size_t settings_count;
  // None means everything.
  const struct rule *rules;
  size_t rules_count;
  // Capabilities, added up.
  int capabilities;
  // NEEDS(STORED), and others, added up.
  int needs;
  // Called once, when the settings were read. False, and why, keeps the last good version serving.
  bool (*configure)(text_t *why);
  verdict_t (*on_request)(const request_t *request);
  verdict_t (*on_object)(const request_t *request, document_t object);
  chunk_verdict_t (*on_chunk)(const request_t *request, channel_t channel, text_t data);
};
// Defined by the policy.
extern const struct policy policy;

// The texts of an operation, for the tests and for request_get.
#define TEXT_VERB POSTERN_POLICY_TYPES_TEXT_VERB
#define TEXT_KIND POSTERN_POLICY_TYPES_TEXT_KIND
#define TEXT_API_GROUP POSTERN_POLICY_TYPES_TEXT_API_GROUP
#define TEXT_API_VERSION POSTERN_POLICY_TYPES_TEXT_API_VERSION
#define TEXT_RESOURCE POSTERN_POLICY_TYPES_TEXT_RESOURCE
#define TEXT_SUBRESOURCE POSTERN_POLICY_TYPES_TEXT_SUBRESOURCE
#define TEXT_NAMESPACE POSTERN_POLICY_TYPES_TEXT_NAMESPACE
#define TEXT_NAME POSTERN_POLICY_TYPES_TEXT_NAME
#define TEXT_PLACE POSTERN_POLICY_TYPES_TEXT_PLACE
#define TEXT_PATH POSTERN_POLICY_TYPES_TEXT_PATH
#define TEXT_CLUSTER POSTERN_POLICY_TYPES_TEXT_CLUSTER
#define TEXT_USERNAME POSTERN_POLICY_TYPES_TEXT_USERNAME
#define TEXT_ISSUER POSTERN_POLICY_TYPES_TEXT_ISSUER
#define TEXT_CONTAINER POSTERN_POLICY_TYPES_TEXT_CONTAINER

// Each of these is one question to the host: ask for as little as decides. A list that is empty fits nothing, and is not asked about. Where `at` is not NULL it
// takes which of the list it is.
bool request_is(const request_t *request, which_text what, texts_t any_of, size_t *at);
// `*` stands for any characters, for none and for `/` too.
bool request_like(const request_t *request, which_text what, texts_t globs, size_t *at);
// Whether any value of a query parameter matches: to refuse by one, not to let pass by it.
bool request_query_like(const request_t *request, const char *key, texts_t globs, size_t *at);
// What a claim is, and what one that is a list has: of JSON texts.
bool request_claim_is(const request_t *request, const char *name, texts_t any_of, size_t *at);
bool request_claim_has(const request_t *request, const char *name, texts_t any_of, size_t *at);
bool request_is_in(const request_t *request, texts_t groups);
bool request_has(const request_t *request, which_text what);
// Windows [from, until) in seconds since 1970 in UTC with `offset` added; with a `period` they begin anew each time so many seconds have passed.
typedef policy_module_tuple2_u64_u64_t window_t;
bool request_at(const request_t *request, size_t count, const window_t *windows, uint32_t period, int32_t offset, size_t *at);
bool request_dry_run(const request_t *request);
bool request_approved(const request_t *request);
bool request_is_command(const request_t *request);

// A text; empty where there is none.
text_t request_get(const request_t *request, which_text what);
text_t request_verb(const request_t *request);
text_t request_path(const request_t *request);
text_t request_username(const request_t *request);
text_t request_issuer(const request_t *request);
// `pods`, `pods/exec`; empty where no resource is addressed.
text_t request_resource(const request_t *request);
// Empty for what has none, and for lists over all of them.
text_t request_namespace(const request_t *request);
// Empty for lists.
text_t request_object_name(const request_t *request);
// The caller's groups, and all claims of their token, as JSON.
texts_t request_groups(const request_t *request);
policy_module_list_tuple2_string_string_t request_claims(const request_t *request);
// The query; the values of one of its parameters.
policy_module_list_tuple2_string_string_t request_query(const request_t *request);
texts_t request_query_values(const request_t *request, const char *key);
// What opens a stream into a container; false for everything but exec and attach.
bool request_command(const request_t *request, command_t *found);
// When it came, in Unix milliseconds; the id of its audit events.
uint64_t request_received_at(const request_t *request);
text_t request_id(const request_t *request);
// The first value of a query parameter; empty where there is none.
text_t request_query_value(const request_t *request, const char *key);
// A verified claim of the caller's token, as JSON; empty where there is none.
text_t request_claim(const request_t *request, const char *name);
// One of the objects that `needs` names; false where there is none.
bool request_around(const request_t *request, enum surrounding which, document_t *found);
// Adds a fact to the audit event: never a secret.
void request_annotate(const request_t *request, const char *key, text_t value);
// Adds to a counter and returns what was counted in the last `window_seconds`; 0 asks without counting.
uint64_t request_count(const request_t *request, text_t key, uint64_t amount, uint32_t window_seconds);
// Adds to a counter of that name that is the caller's own, and returns how many of the limits, each larger than the one before, what was added in the last
// `window_seconds` is over.
uint32_t request_spend(const request_t *request, const char *name, uint64_t amount, uint32_t window_seconds, size_t count, const uint64_t *limits);

// The first match of a path, as JSON; empty where there is none.
text_t document_get(document_t document, const char *path);
// The first match of a path, if it is text; empty where there is none.
text_t document_text(document_t document, const char *path);
// Every match of a path, as JSON, in f1, and its normalized path, in f0.
policy_module_list_tuple2_string_string_t document_select(document_t document, const char *path);
// Every text that a path matches.
texts_t document_texts(document_t document, const char *path);
// Whether any match of a path is one of these JSON texts, and which; how many matches there are.
bool document_is(document_t document, const char *path, texts_t any_of, size_t *at);
uint32_t document_matches(document_t document, const char *path);
// All of it.
text_t document_json(document_t document);
// Bytes of it, as it came.
uint64_t document_size(document_t document);

// Nothing against it.
verdict_t allow(void);
// Refuses it, with a reason the caller sees, and what to do instead (or no text). From on_object: the object is hidden.
verdict_t block(text_t reason, text_t hint);
// Ends an answer before the object that on_object was asked about.
verdict_t terminate(text_t reason, text_t hint);
// Asks for the approval of members of these groups.
verdict_t require_approval(text_t reason, texts_t approvers, uint32_t required, uint32_t valid_seconds);
// Hides what these name; none of them is allow().
verdict_t mask(size_t count, const mask_t *masks);

// A field in every object, by JSONPath.
mask_t field(const char *path);
// What a regular expression matches, in text streams and in the text of objects.
mask_t pattern(const char *regex);
// The values of the Secrets the addressed pod uses, in what its containers write.
mask_t pod_secrets(void);
// Written as a keyed token: equal values of one object are equal tokens.
mask_t mask_tokenize(mask_t mask);
// Its last characters are left, so many of them.
mask_t mask_keep_last(mask_t mask, uint8_t characters);
// Left out.
mask_t mask_remove(mask_t mask);
// Only on objects in which a field has this value: text as it is, anything else as JSON writes it.
mask_t mask_when(mask_t mask, const char *path, const char *value);
// Only on objects in which it has another, or none.
mask_t mask_unless(mask_t mask, const char *path, const char *value);

// Sends a piece of a stream on as it is; this in its place; nothing more, and the caller is told why.
chunk_verdict_t forward(void);
chunk_verdict_t replace(text_t data);
chunk_verdict_t end_stream(text_t reason, text_t hint);

#endif
