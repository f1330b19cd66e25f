//! Adds what stands in an included file, if it may stand there.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_spanned::Spanned;

use super::super::context::Context;
use super::entries::{Entry, Pattern};
use crate::raw::{self, Field, Section};

type Named<T> = Field<BTreeMap<Spanned<String>, Field<T>>>;
type List<T> = Field<Vec<Field<T>>>;

/// Moves the sections of `part` into `file`. What may not be there is reported, and moved all the same, to be checked.
pub(super) fn merge(cx: &mut Context<'_>, file: &mut raw::File, part: raw::File, entry: &Entry) {
    let raw::File {
        include,
        server,
        admin,
        log,
        trust,
        tenant,
        keys,
        policy,
        cluster,
        listener,
        host,
        route,
    } = part;
    if let Some(span) = first(&include).or(include.span()) {
        cx.error(&span, "an included file includes nothing itself")
            .help("name the files in the file that includes this one, which says what they may define");
    }
    let mut merge = Merge { cx, entry };
    merge.single(Section::Server, &mut file.server, server);
    merge.single(Section::Admin, &mut file.admin, admin);
    merge.single(Section::Log, &mut file.log, log);
    merge.single(Section::Keys, &mut file.keys, keys);
    merge.check_bundles(&tenant);
    merge.named(Section::Trust, &mut file.trust, trust);
    merge.named(Section::Tenant, &mut file.tenant, tenant);
    merge.named(Section::Policy, &mut file.policy, policy);
    merge.named(Section::Cluster, &mut file.cluster, cluster);
    merge.list(Section::Listener, &mut file.listener, listener);
    merge.list(Section::Host, &mut file.host, host);
    merge.list(Section::Route, &mut file.route, route);
}

struct Merge<'m, 's> {
    cx: &'m mut Context<'s>,
    entry: &'m Entry,
}

impl Merge<'_, '_> {
    /// `[server]` and the like, of which there is one.
    fn single<T>(&mut self, section: Section, into: &mut Field<T>, part: Field<T>) {
        let Some(span) = part.span() else { return };
        self.check(section, &span);
        if let Some(first) = into.span() {
            self.twice(&span, &format!("[{section}]"), &first);
        } else {
            *into = part;
        }
    }

    /// `[trust.NAME]` and the like.
    fn named<T>(&mut self, section: Section, into: &mut Named<T>, part: Named<T>) {
        let Field::Given(part) = part else {
            self.unreadable(section, into, part);
            return;
        };
        let place = part.span();
        let part = part.into_inner();
        if let Some((name, _)) = part.first_key_value() {
            self.check(section, &name.span());
        }
        if into.is_absent() {
            *into = Field::Given(Spanned::new(place, BTreeMap::new()));
        }
        let Some(all) = into.value_mut() else { return };
        for (name, value) in part {
            self.check_name(section, &name);
            let known = all.get_key_value(&name).map(|(known, _)| known.span());
            match known {
                Some(first) => self.twice(&name.span(), &format!("[{section}.{}]", name.get_ref()), &first),
                None => {
                    all.insert(name, value);
                }
            }
        }
    }

    /// `[[listener]]` and the like.
    fn list<T>(&mut self, section: Section, into: &mut List<T>, part: List<T>) {
        let Field::Given(part) = part else {
            self.unreadable(section, into, part);
            return;
        };
        let place = part.get_ref().iter().find_map(Field::span).unwrap_or(part.span());
        self.check(section, &place);
        if into.is_absent() {
            *into = Field::Given(part);
        } else if let Some(all) = into.value_mut() {
            all.extend(part.into_inner());
        }
    }

    /// What could not be read was reported. It must not be taken for absent.
    fn unreadable<T>(&mut self, section: Section, into: &mut Field<T>, part: Field<T>) {
        if let Some(span) = part.span() {
            self.check(section, &span);
            if into.is_absent() {
                *into = part;
            }
        }
    }

    fn check(&mut self, section: Section, span: &Range<usize>) {
        if self.entry.may_define.contains(&section) {
            return;
        }
        let allowed: Vec<String> = self.entry.may_define.iter().map(Section::to_string).collect();
        let by = self.cx.place(&self.cx.at(&self.entry.span));
        let help = format!(
            "the [[include]] at {by} lets it have {}; move this to a file that may, or add \"{section}\" there",
            allowed.join(", ")
        );
        self.cx.error(span, format!("this file may not define \"{section}\"")).help(help);
    }

    fn check_name(&mut self, section: Section, name: &Spanned<String>) {
        let Some(allowed) = &self.entry.names else { return };
        if allowed.iter().any(|pattern| pattern.matches(name.get_ref())) {
            return;
        }
        let help = self.names_help(allowed);
        let message = format!("this file may not define a {section} called {:?}", name.get_ref());
        self.cx.error(&name.span(), message).help(help);
    }

    /// A tenant decides whose client a certificate is. Of bundles that are not theirs these files decide nothing.
    fn check_bundles(&mut self, tenants: &Named<raw::Tenant>) {
        let Some(allowed) = &self.entry.names else { return };
        let tenants = tenants.value().into_iter().flatten().filter_map(|(_, tenant)| tenant.value());
        for bundle in tenants.filter_map(|tenant| tenant.trust.given()).flat_map(raw::strings) {
            if !allowed.iter().any(|pattern| pattern.matches(bundle.get_ref())) {
                let message = format!("a tenant of this file may not have the bundle {:?}", bundle.get_ref());
                let help = self.names_help(allowed);
                self.cx.error(&bundle.span(), message).help(help);
            }
        }
    }

    fn names_help(&self, allowed: &[Pattern]) -> String {
        let allowed: Vec<String> = allowed.iter().map(Pattern::to_string).collect();
        let by = self.cx.place(&self.cx.at(&self.entry.span));
        format!("the [[include]] at {by} lets it use {}", allowed.join(", "))
    }

    fn twice(&mut self, span: &Range<usize>, what: &str, first: &Range<usize>) {
        let place = self.cx.place(&self.cx.at(first));
        self.cx
            .error(span, format!("{what} is defined at {place} already"))
            .help("no file overrides another: leave one of them away");
    }
}

fn first<T>(list: &List<T>) -> Option<Range<usize>> {
    list.value()?.iter().find_map(Field::span)
}
