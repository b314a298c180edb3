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
  // Each caller has a counter of their own.
  if (!limit || !request_spend(request, what, 1, 60, 1, &limit)) return false;
  text_t reason = text_format("more than %llu %s in a minute", (unsigned long long)limit, what);
  *verdict = block(reason, text("wait a minute, or ask for fewer objects at a time"));
  return true;
}

static verdict_t on_request(const request_t *request) {
  verdict_t verdict = allow();
  if (request_is_in(request, exempt_groups)) return verdict;
  if (request_is_command(request) && over(request, "commands", exec_per_minute, &verdict)) return verdict;
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
