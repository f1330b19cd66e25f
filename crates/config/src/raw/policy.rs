//! `[policy.NAME]`.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, CountOrWord, DurationText, Field, OneOrMany, PolicyServer, SizeText, WordOrTable};

/// `[policy.NAME]`: a policy, which decides whether a request is allowed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "[policy.NAME]", default, deny_unknown_fields)]
pub struct Policy {
    /// What decides. `"rego"`: rules in the Rego language, which can do everything. `"matcher"`: a table in TOML of who may ask
    /// for what, the quickest to write and to decide. `"cedar"`: policies in Cedar, whose types are checked before they run, with
    /// groups of clients. `"opa"`: an OPA server that is asked about every request (`server`).
    ///
    /// Default `"rego"`. Example: `engine = "matcher"`.
    pub engine: Field<Engine>,
    /// Files and directories with the sources: `*.rego` modules, and `*.json` and `*.yaml` documents for `data`; for the matcher
    /// `*.toml`; for Cedar `*.cedar` policies, `*.json` entities, one `*.cedarschema` and `*.test.toml`. They are watched, and a change takes effect with the next request, also on connections that are open.
    ///
    /// Required, except with `engine = "opa"`; 1 to 64. Example: `path = ["policies/"]`.
    pub path: Field<OneOrMany>,
    /// The OPA server that decides, for `engine = "opa"`: its address, or a table with more about how it is asked. It gets the
    /// whole input, in which `authorization` and `cookie` are, and is asked about every request anew. With it, `path`,
    /// `time_budget` and `cache` are refused.
    ///
    /// Required with `engine = "opa"`. Example: `server = "127.0.0.1:8181"`.
    pub server: Field<WordOrTable<PolicyServer>>,
    /// The rule that is asked: a boolean, or an object with `allowed` and more. Undefined means denied. The matcher and Cedar have none.
    ///
    /// Default `"data.ringward.authz.decision"`. Example: `rule = "data.partners.allow"`.
    pub rule: Field<String>,
    /// How long one decision may take; after that the request is answered with 500. A worker does nothing else
    /// meanwhile, so the worst delay of every connection of that worker grows with it. Of Rego only: the
    /// matcher is done before anybody could look at a clock, and policies in Cedar are bounded in size instead.
    ///
    /// Default `"5ms"`; `"100us"` to `"1s"`. Example: `time_budget = "20ms"`.
    pub time_budget: Field<DurationText>,
    /// Whether a decision is given again to requests that the policy cannot tell from the one it was made for. `"auto"` does so
    /// where that is sound, which follows from what the policy reads and calls; `ringward check` says which policies cannot
    /// be cached and why. `"off"` evaluates the policy for every request. A table sets the bounds and is `"auto"` in all
    /// else.
    ///
    /// Default `"auto"`. Example: `cache = { entries = 32768, bytes = "16MiB" }`.
    pub cache: Field<WordOrTable<PolicyCache>>,
    /// The shape of the policy's input and result. `"native"` is Ringward's own. `"envoy-v3"` is what OPA's Envoy plugin gives
    /// to policies (`input.attributes.request.http.path`, `input.parsed_path`), `"kong"` what Kong's OPA plugin gives
    /// (`input.request.http.path`, and a result with `allow`, `status`, `headers` and `message`). `ringward policy schema
    /// --shape SHAPE` prints all fields; deploy/policy-input.md says what differs from those gateways.
    ///
    /// Default `"native"`. Example: `input = "envoy-v3"`.
    pub input: Field<InputShape>,
    /// Another policy that is asked about the same requests, and decides nothing: how often it says otherwise is counted in
    /// `ringward_policy_candidate_decisions_total`, and a sample of that is in the log. So a change can be tried on real requests before
    /// it is in force. Of a body it sees what this policy is shown. It costs its time on the worker, within its own `time_budget`;
    /// a policy server cannot be a candidate.
    ///
    /// Default none. Example: `candidate = "next"`.
    pub candidate: Field<String>,
}

/// `cache = { ... }` of `[policy.NAME]`: bounds of the decision cache that each worker has for the policy. A change of the
/// policy or its data begins a new cache; until then decisions stay, unless the policy limits them with `cache_ttl`. Errors
/// are never kept.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "cache", default, deny_unknown_fields)]
pub struct PolicyCache {
    /// How many decisions each worker keeps. When there is no room, those that are not used are replaced.
    ///
    /// Default 8192; 64 to 65536. Example: `entries = 32768`.
    pub entries: Field<Count>,
    /// How much memory they may take with all that they are found by, in each worker.
    ///
    /// Default `"4MiB"`; `"256KiB"` to `"256MiB"`. Example: `bytes = "16MiB"`.
    pub bytes: Field<SizeText>,
    /// One of about so many decisions that are given again is checked by evaluating the policy. A difference, which only a
    /// fault of Ringward can make, turns the cache off until the policy changes or the process starts anew, and shows in
    /// `ringward_policy_cache_mismatches_total`.
    ///
    /// Default 1024; 1 (all) to 1000000. Example: `verify_every = 64`.
    pub verify_every: Field<Count>,
    /// How many evaluations per second one client may cause on the whole node by requests that are not found, such as paths
    /// that it never asks for twice, or `"unlimited"`. What is above is answered with 429; requests that are found are not
    /// concerned, nor are other clients. A client is a certificate, and without one an address. Each worker has its share, so a
    /// client with fewer connections than there are workers may get less.
    ///
    /// Of a policy that cannot be cached every request counts.
    ///
    /// Default `"unlimited"`; 1 to 1000000. Example: `misses_per_second = 500`.
    pub misses_per_second: Field<CountOrWord>,
}

/// Values of `engine` in `[policy.NAME]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "policy.engine", rename_all = "snake_case")]
pub enum Engine {
    /// Rego.
    Rego,
    /// A table in TOML.
    Matcher,
    /// Policies in Cedar.
    Cedar,
    /// An OPA server.
    Opa,
}

impl Engine {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rego => "rego",
            Self::Matcher => "matcher",
            Self::Cedar => "cedar",
            Self::Opa => "opa",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Values of `input` in `[policy.NAME]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "policy.input", rename_all = "kebab-case")]
pub enum InputShape {
    /// Ringward's own.
    Native,
    /// That of OPA's Envoy plugin.
    EnvoyV3,
    /// That of Kong's OPA plugin.
    Kong,
}
