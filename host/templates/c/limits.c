// policy-name: limits how many changes a caller makes.
#include "postern.h"

static uint64_t per_minute;

// What stands under `settings` in the file beside the module. What is not there is not taken.
static const struct setting SETTINGS[] = {
    {"perMinute", NUMBER, &per_minute, "60", "Changes that a caller may make in a minute"},
};

// Which operations it is asked about; a list that is not there means any.
static const struct rule RULES[] = {
    {.verbs = LIST("create", "update", "patch", "delete", "deletecollection")},
};

// Before anything reaches the cluster.
static verdict_t on_request(const request_t *request) {
  if (request_dry_run(request)) return allow();
  unsigned long long so_far = request_count(request, request_username(request), 1, 60), limit = per_minute;
  if (so_far <= limit) return allow();
  return block(text_format("%llu changes in a minute are over the limit of %llu", so_far, limit), text("wait a minute"));
}

const struct policy policy = {
    .name = "policy-name",
    .version = "0.1.0",
    .summary = "Limits how many changes a caller makes",
    .settings = SETTINGS,
    .settings_count = COUNT(SETTINGS),
    .rules = RULES,
    .rules_count = COUNT(RULES),
    // What it must see beyond who asks for what: BODIES | SECRET_VALUES | STREAMS | COUNTERS.
    .capabilities = COUNTERS,
    .on_request = on_request,
};
