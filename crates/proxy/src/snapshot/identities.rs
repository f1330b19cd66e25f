//! Routes that go upstream as somebody else than their cluster does.
//!
//! For the data path each of these is a cluster of its own: the same endpoints, name, limits and metrics, with another TLS side. So a
//! request finds the connections of its identity as every request finds those of its cluster, and who does not use it pays nothing.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use ringward_config as config;

use super::{Cluster, SnapshotError, build::Builder};

/// A cluster with a certificate of ours that is not the cluster's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteIdentity {
    /// The name of the cluster.
    pub cluster: String,
    /// The file with the chain.
    chain: PathBuf,
    /// The file with the key.
    key: PathBuf,
}

impl RouteIdentity {
    fn new(cluster: &str, (chain, key): (&Path, &Path)) -> RouteIdentity {
        RouteIdentity { cluster: cluster.to_owned(), chain: chain.to_owned(), key: key.to_owned() }
    }

    /// Those of a route, one for each of its clusters, that of its mirror included; none if it has no certificate of its own.
    pub fn all_of(route: &config::Route) -> impl Iterator<Item = RouteIdentity> + '_ {
        let mirror = route.mirror.as_ref().map(|mirror| mirror.cluster.as_str());
        let clusters = move || route.action.clusters().chain(mirror);
        let own = route.upstream_certificate.as_ref();
        own.into_iter()
            .flat_map(move |own| clusters().map(|cluster| RouteIdentity::new(cluster, own.paths())))
    }
}

/// All of a configuration, in the order in which they follow the clusters of the configuration.
pub(super) struct Identities(Vec<RouteIdentity>);

impl Identities {
    pub(super) fn of(config: &config::Config) -> Identities {
        let routes =
            config.listeners.iter().flat_map(|listener| &listener.hosts).flat_map(|host| &host.routes);
        let all: BTreeSet<RouteIdentity> = routes.flat_map(RouteIdentity::all_of).collect();
        Identities(all.into_iter().collect())
    }

    /// The index in [`super::Snapshot::clusters`] of a cluster as a route uses it.
    pub(super) fn index(&self, config: &config::Config, route: &config::Route, cluster: &str) -> usize {
        let own = config.clusters.keys().position(|name| name == cluster);
        let own = own.expect("names that refer to something do (config)");
        let Some(certificate) = &route.upstream_certificate else { return own };
        let identity = RouteIdentity::new(cluster, certificate.paths());
        config.clusters.len()
            + self.0.binary_search(&identity).expect("it is of a route of this configuration")
    }

    pub(super) fn clusters<'a>(
        &'a self,
        builder: &'a Builder<'_>,
    ) -> impl Iterator<Item = Result<Cluster, SnapshotError>> + 'a {
        self.0.iter().map(|identity| {
            let tls = builder.materials.route_tls.get(identity).cloned();
            let what =
                || format!("the certificate `{}` for cluster {}", identity.chain.display(), identity.cluster);
            let tls = tls.ok_or_else(|| SnapshotError::Missing { what: what() })?;
            let cluster = builder.cluster(&builder.config.clusters[&identity.cluster])?;
            Ok(Cluster { tls: Some(tls), ..cluster })
        })
    }
}
