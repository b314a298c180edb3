// rate-limit: so many requests a minute for each caller, so that no script holds up the cluster.
#include "postern.h"

static uint64_t per_minute, exec_per_minute;
static texts_t exempt_groups;

static const struct setting SETTINGS[] = {
    {"perMinute", NUMBER, &per_minute, "Requests one caller may make in a minute; 0 sets no limit"},
    {"execPerMinute", NUMBER, &exec_per_minute, "Commands (exec, attach) among them; 0 sets no limit"},
    {"exemptGroups", TEXTS, &exempt_groups, "Groups without a limit"},
};
#define COUNT (sizeof SETTINGS / sizeof *SETTINGS)

bool exports_postern_policy_policy_configure(policy_module_string_t *settings, policy_module_string_t *why) {
  per_minute = 600;
  exec_per_minute = 30;
  exempt_groups = texts(NULL);
  return settings_read(*settings, SETTINGS, COUNT, why);
}

void exports_postern_policy_policy_describe(manifest_t *manifest) {
  *manifest = (manifest_t){
      .name = text("rate-limit"),
      .version = text("0.1.0"),
      .summary = text("Limits how many requests a caller makes in a minute"),
      .hooks = POSTERN_POLICY_TYPES_HOOKS_REQUEST,
      .capabilities = POSTERN_POLICY_TYPES_CAPABILITIES_COUNTERS,
      .settings_schema = settings_schema(SETTINGS, COUNT),
  };
  manifest_rules(manifest, 0, NULL);
}

static bool over(const operation_t *operation, const char *what, uint64_t limit, verdict_t *verdict) {
  if (!limit) return false;
  // A key has 256 bytes at most: of a longer name its beginning and its length stand for it.
  text_t name = operation->caller.username;
  int shown = name.len > 200 ? 200 : (int)name.len;
  // Between two characters of UTF-8: half of one would be no key.
  while (shown > 0 && (size_t)shown < name.len && (name.ptr[shown] & 0xc0) == 0x80) shown--;
  uint64_t so_far = count(text_format("%s %.*s %zu", what, shown, (const char *)name.ptr, name.len), 1, 60);
  if (so_far <= limit) return false;
  text_t hint = text("wait a minute, or ask for fewer objects at a time");
  *verdict = block(text_format("%llu %s in a minute are over the limit of %llu", (unsigned long long)so_far, what,
                               (unsigned long long)limit),
                   &hint);
  return true;
}

void exports_postern_policy_policy_on_request(operation_t *operation, document_t *body, verdict_t *verdict) {
  (void)body;
  *verdict = allow();
  if (caller_is_in(operation, exempt_groups)) return;
  if (operation->command.is_some && over(operation, "commands", exec_per_minute, verdict)) return;
  over(operation, "requests", per_minute, verdict);
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
