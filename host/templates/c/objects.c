// policy-name: has each team see its own objects.
#include "postern.h"

static text_t label;
static texts_t groups;

// What stands under `settings` in the file beside the module. What is not there is not taken.
static const struct setting SETTINGS[] = {
    {"label", TEXT, &label, "\"team\"", "The label that says whose an object is"},
    {"groups", TEXTS, &groups, "[\"sre\"]", "Groups that see, and create, everything"},
};

// Which operations it is asked about; a list that is not there means any.
static const struct rule RULES[] = {
    {.resources = LIST("configmaps", "deployments", "deployments/status")},
};

// The team an object is of; empty where it is of none.
static text_t team_of(document_t document) {
  text_t path = text_format("$.metadata.labels['%.*s']", SHOWN(label));
  return document_text(document, (const char *)path.ptr);
}

static bool is_of(const request_t *request, text_t team) { return request_is_in(request, (texts_t){&team, 1}); }

static bool verb_is(const request_t *request, const char *const *verbs) { return request_is(request, TEXT_VERB, texts(verbs), NULL); }

// Before anything reaches the cluster.
static verdict_t on_request(const request_t *request) {
  if (verb_is(request, LIST("get", "list", "watch")) || request_is_in(request, groups)) return allow();
  if (verb_is(request, LIST("deletecollection")))
    return block(text("many objects at once may be of several teams"), text("delete them by name"));
  document_t stored;
  const bool is_there = request_around(request, STORED, &stored);
  text_t owner = is_there ? team_of(stored) : text("");
  if (owner.len && !is_of(request, owner)) return block(text_format("it is of the team %.*s", SHOWN(owner)), text(""));
  // A patch creates what is not there, by server-side apply.
  if (verb_is(request, LIST("delete")) || (is_there && verb_is(request, LIST("patch")))) return allow();
  text_t team = request->body ? team_of(*request->body) : text("");
  if (!team.len)
    return block(text_format("what is created needs the label %.*s", SHOWN(label)),
                 text_format("put %.*s: YOUR-TEAM into metadata.labels", SHOWN(label)));
  if (is_of(request, team)) return allow();
  return block(text_format("%.*s is not of the team %.*s", SHOWN(request_username(request)), SHOWN(team)), text(""));
}

// Each object that comes back: of a get, a list, a watch, a change. What is blocked here is left out.
static verdict_t on_object(const request_t *request, document_t document) {
  text_t team = team_of(document);
  if (!team.len || is_of(request, team) || request_is_in(request, groups)) return allow();
  return block(text_format("it is of the team %.*s", SHOWN(team)), text(""));
}

const struct policy policy = {
    .name = "policy-name",
    .version = "0.1.0",
    .summary = "Has each team see its own objects",
    .settings = SETTINGS,
    .settings_count = COUNT(SETTINGS),
    .rules = RULES,
    .rules_count = COUNT(RULES),
    // What it must know beside the request: STORED, NAMESPACE, POD.
    .needs = NEEDS(STORED),
    // What it must see beyond who asks for what: BODIES | SECRET_VALUES | STREAMS | COUNTERS. Names and labels are always there.
    .capabilities = 0,
    .on_request = on_request,
    .on_object = on_object,
};
