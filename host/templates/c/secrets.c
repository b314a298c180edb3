// policy-name: hides the values of Secrets.
#include "postern.h"

static texts_t groups;

// What stands under `settings` in the file beside the module. What is not there is not taken.
static const struct setting SETTINGS[] = {
    {"groups", TEXTS, &groups, "[\"sre\"]", "Groups that see them"},
};

// Which operations it is asked about; a list that is not there means any.
static const struct rule RULES[] = {
    {.resources = LIST("secrets")},
};

// Before anything reaches the cluster.
static verdict_t on_request(const request_t *request) {
  if (request_is_in(request, groups)) return allow();
  // Equal values of a Secret are equal tokens. mask_keep_last, mask_remove and mask_when are there too.
  const mask_t masks[] = {mask_tokenize(field("$.data.*")), mask_tokenize(field("$.stringData.*"))};
  return mask(COUNT(masks), masks);
}

const struct policy policy = {
    .name = "policy-name",
    .version = "0.1.0",
    .summary = "Hides the values of Secrets",
    .settings = SETTINGS,
    .settings_count = COUNT(SETTINGS),
    .rules = RULES,
    .rules_count = COUNT(RULES),
    // What it must see beyond who asks for what: BODIES | SECRET_VALUES | STREAMS | COUNTERS.
    .capabilities = 0,
    .on_request = on_request,
};
