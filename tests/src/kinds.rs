//! One scenario on every kind of server, and on Redis and Valkey together.

/// Makes a scenario four tests: `redis8`, `valkey9`, `valkey8` and `mixed`, each with a fresh [`Cluster`] of so many
/// sites.
///
/// ```ignore
/// on_all_kinds! {
///     fn a_write_arrives(cluster: 2) {
///         cluster.site(1).client().ok("SET k v");
///         cluster.converged();
///         assert_eq!(cluster.site(2).client().text("GET k"), "v");
///     }
/// }
/// ```
///
/// [`Cluster`]: crate::cluster::Cluster
#[macro_export]
macro_rules! on_all_kinds {
    ($($(#[$meta:meta])* fn $name:ident($cluster:ident: $sites:literal) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            use $crate::{cluster::Cluster, server::ServerKind};

            fn scenario($cluster: &mut Cluster) $body

            #[test]
            fn redis8() {
                scenario(&mut Cluster::new(&[ServerKind::Redis8; $sites]));
            }

            #[test]
            fn valkey9() {
                scenario(&mut Cluster::new(&[ServerKind::Valkey9; $sites]));
            }

            #[test]
            fn valkey8() {
                scenario(&mut Cluster::new(&[ServerKind::Valkey8; $sites]));
            }

            #[test]
            fn mixed() {
                scenario(&mut Cluster::new(&ServerKind::mixed($sites)));
            }
        }
    )+};
}

/// Makes a scenario three tests: `redis8`, `valkey9` and `valkey8`, each given its kind of server.
///
/// ```ignore
/// on_each_kind! {
///     fn it_starts(kind) {
///         Server::start(kind, ServerOptions::instance(1));
///     }
/// }
/// ```
#[macro_export]
macro_rules! on_each_kind {
    ($($(#[$meta:meta])* fn $name:ident($kind:ident) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn scenario($kind: $crate::server::ServerKind) $body

            #[test]
            fn redis8() {
                scenario($crate::server::ServerKind::Redis8);
            }

            #[test]
            fn valkey9() {
                scenario($crate::server::ServerKind::Valkey9);
            }

            #[test]
            fn valkey8() {
                scenario($crate::server::ServerKind::Valkey8);
            }
        }
    )+};
}
