//! The wanted settings, read out of the tuning files that are built in. The comment above a setting is its reason.

use super::Role;

/// One setting of the machine and what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub item: Item,
    pub value: String,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A kernel setting, by its dotted name.
    Sysctl(String),
    /// A limit of this process, `nofile` or `memlock`.
    Limit { kind: Kind, resource: String },
    /// The mode of transparent huge pages.
    HugePages,
    /// Whether a ring can be made: the last word on sysctl, seccomp and kernel together.
    Ring,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Soft,
    Hard,
}

const THP_UNIT: &str = include_str!("../../tuning/store/systemd/kvcore-thp.service");

/// Everything that is wanted of a machine in `role`.
pub fn wanted(role: Role) -> Vec<Wanted> {
    match role {
        Role::Store => {
            let mut all = settings(include_str!("../../tuning/store/sysctl.d/60-kvcore.conf"), sysctl);
            all.extend(settings(include_str!("../../tuning/store/limits.d/60-kvcore.conf"), limit));
            all.extend(huge_pages(THP_UNIT));
            let why = "kvcore does all its I/O through io_uring; in a container the seccomp profile has to allow it.";
            all.push(Wanted { item: Item::Ring, value: "works".to_owned(), why: why.to_owned() });
            all
        }
        Role::Proxy => {
            let mut all = settings(include_str!("../../tuning/proxy/sysctl.d/60-kvcore-proxy.conf"), sysctl);
            all.extend(settings(include_str!("../../tuning/proxy/limits.d/60-kvcore-proxy.conf"), limit));
            all
        }
    }
}

/// Reads lines by `read`; the comment of a group of lines counts for each of them.
fn settings(text: &str, read: fn(&str) -> Option<(Item, String)>) -> Vec<Wanted> {
    let mut all = Vec::new();
    let mut why: Vec<&str> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix('#') {
            Some(comment) => why.push(comment.trim()),
            None if line.trim().is_empty() => why.clear(),
            None => all.extend(read(line).map(|(item, value)| Wanted { item, value, why: why.join(" ") })),
        }
    }
    all
}

fn sysctl(line: &str) -> Option<(Item, String)> {
    let (name, value) = line.split_once('=')?;
    Some((Item::Sysctl(name.trim().to_owned()), value.trim().to_owned()))
}

/// A line of limits.conf. Only the lines for everybody count: root's are the same.
fn limit(line: &str) -> Option<(Item, String)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["*", kind, resource, value] = words[..] else {
        return None;
    };
    let kind = if kind == "hard" { Kind::Hard } else { Kind::Soft };
    Some((Item::Limit { kind, resource: resource.to_owned() }, value.to_owned()))
}

fn huge_pages(unit: &str) -> Option<Wanted> {
    let (_, command) = unit.split_once("echo ")?;
    let why = unit.lines().next()?.trim_start_matches(['#', ' ']);
    Some(Wanted { item: Item::HugePages, value: command.split_whitespace().next()?.to_owned(), why: why.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(role: Role, name: &str) -> Option<String> {
        let item = Item::Sysctl(name.to_owned());
        wanted(role).into_iter().find(|wanted| wanted.item == item).map(|wanted| wanted.value)
    }

    #[test]
    fn each_setting_has_a_reason_in_one_sentence() {
        for wanted in wanted(Role::Store).into_iter().chain(wanted(Role::Proxy)) {
            assert!(wanted.why.ends_with('.') && wanted.why.len() > 20, "{wanted:?}");
        }
    }

    #[test]
    fn the_roles_are_apart() {
        assert_eq!(value(Role::Store, "vm.overcommit_memory").as_deref(), Some("1"));
        assert_eq!(value(Role::Store, "net.ipv4.ip_forward"), None);
        assert_eq!(value(Role::Store, "net.ipv4.tcp_rmem"), None);
        assert_eq!(value(Role::Proxy, "net.ipv4.ip_forward").as_deref(), Some("1"));
        assert_eq!(value(Role::Proxy, "net.ipv4.tcp_mem").as_deref(), Some("786432 1697152 1945728"));
        let store = wanted(Role::Store);
        let find = |item: Item| store.iter().find(|wanted| wanted.item == item).map(|wanted| wanted.value.as_str());
        assert_eq!(find(Item::HugePages), Some("never"));
        assert_eq!(find(Item::Limit { kind: Kind::Soft, resource: "nofile".into() }), Some("10000000"));
        assert_eq!(find(Item::Limit { kind: Kind::Hard, resource: "memlock".into() }), Some("unlimited"));
    }

    #[test]
    fn drop_ins_agree_with_the_limits() {
        let drop_in = include_str!("../../tuning/store/systemd/kvcore.service.d/limits.conf");
        assert!(drop_in.contains("LimitNOFILE=10000000") && drop_in.contains("LimitMEMLOCK=infinity"));
        assert!(include_str!("../../tuning/proxy/systemd/haproxy.service.d/limits.conf").contains("LimitNOFILE=10000000"));
    }

    #[test]
    fn the_queue_is_long_enough_for_the_default_backlog() {
        let somaxconn: u32 = value(Role::Store, "net.core.somaxconn").expect("wanted").parse().expect("a number");
        assert!(somaxconn >= crate::config::Config::default().tcp_backlog);
    }

    #[test]
    fn the_seccomp_profile_leaves_io_uring_alone() {
        let profile = include_str!("../../tuning/store/seccomp/kvcore.json");
        assert!(profile.contains("\"defaultAction\": \"SCMP_ACT_ALLOW\"") && !profile.contains("\"io_uring"));
    }
}
