// policy-name: says who may delete.
#include "postern.h"

static texts_t groups;

static const struct setting SETTINGS[] = {
    {"groups", TEXTS, &groups, "Groups that may delete"},
};
#define COUNT (sizeof SETTINGS / sizeof *SETTINGS)

// Called once, with what stands under `settings` in the file beside the module.
bool exports_postern_policy_policy_configure(policy_module_string_t *settings, policy_module_string_t *why) {
  groups = texts((const char *const[]){"sre", NULL});
  return settings_read(*settings, SETTINGS, COUNT, why);
}

void exports_postern_policy_policy_describe(manifest_t *manifest) {
  *manifest = (manifest_t){
      .name = text("policy-name"),
      .version = text("0.1.0"),
      .summary = text("Says who may delete"),
      .hooks = POSTERN_POLICY_TYPES_HOOKS_REQUEST,
      // What it must see beyond who asks for what: bodies, secret values, streams, counters.
      .capabilities = 0,
      .settings_schema = settings_schema(SETTINGS, COUNT),
  };
  // Which operations it is asked about; NULL means any.
  const postern_policy_types_rule_t rules[] = {rule((const char *const[]){"delete", "deletecollection", NULL}, NULL, NULL, NULL)};
  manifest_rules(manifest, 1, rules);
}

// Before anything reaches the cluster.
void exports_postern_policy_policy_on_request(operation_t *operation, document_t *body, verdict_t *verdict) {
  (void)body;
  if (caller_is_in(operation, groups)) {
    *verdict = allow();
    return;
  }
  text_t joined = texts_joined(groups), hint = text_format("ask one of %.*s", SHOWN(joined));
  *verdict = block(text_format("%.*s may not delete", SHOWN(operation->caller.username)), &hint);
}

void exports_postern_policy_policy_on_object(operation_t *operation, document_t object, verdict_t *verdict) {
  (void)operation, (void)object;
  *verdict = allow();
}

void exports_postern_policy_policy_on_chunk(operation_t *operation, exports_postern_policy_policy_channel_t channel,
                                            policy_module_list_u8_t *data, chunk_verdict_t *verdict) {
  (void)operation, (void)channel, (void)data;
  *verdict = (chunk_verdict_t){.tag = POSTERN_POLICY_TYPES_CHUNK_VERDICT_FORWARD};
}
