// rate-limit: so many requests a minute for each caller, so that no script holds up the cluster.
#include "postern.h"

static uint64_t per_minute, exec_per_minute;
static texts_t exempt_groups;

static const struct setting SETTINGS[] = {
    {"perMinute", NUMBER, &per_minute, "600", "Requests one caller may make in a minute; 0 sets no limit"},
    {"execPerMinute", NUMBER, &exec_per_minute, "30", "Commands (exec, attach) among them; 0 sets no limit"},
    {"exemptGroups", TEXTS, &exempt_groups, "[]", "Groups without a limit"},
};

static bool over(const request_t *request, const char *what, uint64_t limit, verdict_t *verdict) {
  if (!limit) return false;
  // A key has 256 bytes at most: of a longer name its beginning and its length stand for it.
  text_t name = request->operation->caller.username;
  int shown = name.len > 200 ? 200 : (int)name.len;
  // Between two characters of UTF-8: half of one would be no key.
  while (shown > 0 && (size_t)shown < name.len && (name.ptr[shown] & 0xc0) == 0x80) shown--;
  text_t key = text_format("%s %.*s %zu", what, shown, (const char *)name.ptr, name.len);
  uint64_t so_far = request_count(request, key, 1, 60);
  if (so_far <= limit) return false;
  text_t reason = text_format("%llu %s in a minute are over the limit of %llu", (unsigned long long)so_far, what, (unsigned long long)limit);
  *verdict = block(reason, text("wait a minute, or ask for fewer objects at a time"));
  return true;
}

static verdict_t on_request(const request_t *request) {
  verdict_t verdict = allow();
  if (request_is_in(request, exempt_groups)) return verdict;
  if (request->operation->command.is_some && over(request, "commands", exec_per_minute, &verdict)) return verdict;
  over(request, "requests", per_minute, &verdict);
  return verdict;
}

const struct policy policy = {
    .name = "rate-limit",
    .version = "0.1.0",
    .summary = "Limits how many requests a caller makes in a minute",
    .settings = SETTINGS,
    .settings_count = COUNT(SETTINGS),
    .capabilities = COUNTERS,
    .on_request = on_request,
};
