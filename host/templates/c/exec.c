// policy-name: says which commands run in containers.
#include "postern.h"

static texts_t commands;
static texts_t approvers;

// What stands under `settings` in the file beside the module. What is not there is not taken.
static const struct setting SETTINGS[] = {
    {"commands", TEXTS, &commands, "[\"ls\", \"ps\"]", "Commands that run without an approval, by their first word"},
    {"approvers", TEXTS, &approvers, "[\"sre\"]", "Groups that approve the others"},
};

// Which operations it is asked about; a list that is not there means any.
static const struct rule RULES[] = {
    {.verbs = LIST("create"), .resources = LIST("pods/exec", "pods/attach")},
};

// Before anything reaches the cluster.
static verdict_t on_request(const request_t *request) {
  text_t username = request_username(request), name = request_object_name(request);
  command_t asked;
  // attach has no words: what it reaches runs already.
  if (!request_command(request, &asked) || !asked.argv.len)
    return require_approval(text_format("%.*s attaches to %.*s", SHOWN(username), SHOWN(name)), approvers, 1, 3600);
  text_t command = asked.argv.ptr[0];
  if (texts_have(commands, command)) {
    // And what it writes shows no value of the Secrets that the pod uses.
    const mask_t hidden = pod_secrets();
    return mask(1, &hidden);
  }
  return require_approval(text_format("%.*s runs %.*s in %.*s", SHOWN(username), SHOWN(command), SHOWN(name)), approvers, 1, 3600);
}

const struct policy policy = {
    .name = "policy-name",
    .version = "0.1.0",
    .summary = "Says which commands run in containers",
    .settings = SETTINGS,
    .settings_count = COUNT(SETTINGS),
    .rules = RULES,
    .rules_count = COUNT(RULES),
    // What it must see beyond who asks for what: BODIES | SECRET_VALUES | STREAMS | COUNTERS.
    .capabilities = 0,
    .on_request = on_request,
};
