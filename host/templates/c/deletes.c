// policy-name: says who may delete.
#include "postern.h"

static texts_t groups;

// What stands under `settings` in the file beside the module. What is not there is not taken.
static const struct setting SETTINGS[] = {
    {"groups", TEXTS, &groups, "[\"sre\"]", "Groups that may delete"},
};

// Which operations it is asked about; a list that is not there means any.
static const struct rule RULES[] = {
    {.verbs = LIST("delete", "deletecollection")},
};

// Before anything reaches the cluster.
static verdict_t on_request(const request_t *request) {
  if (request_is_in(request, groups)) return allow();
  text_t reason = text_format("%.*s may not delete", SHOWN(request_username(request)));
  return block(reason, text_format("ask one of %.*s", SHOWN(texts_joined(groups))));
}

const struct policy policy = {
    .name = "policy-name",
    .version = "0.1.0",
    .summary = "Says who may delete",
    .settings = SETTINGS,
    .settings_count = COUNT(SETTINGS),
    .rules = RULES,
    .rules_count = COUNT(RULES),
    // What it must see beyond who asks for what: BODIES | SECRET_VALUES | STREAMS | COUNTERS.
    .capabilities = 0,
    .on_request = on_request,
};
