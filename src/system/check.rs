//! `kvcore --check-system`: what the machine has now beside what is wanted, and why.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use super::Role;
use super::wanted::{Item, Kind, Wanted, wanted};

/// Where the present settings are read. Tests put a directory in place of `/`.
#[derive(Clone, Debug)]
pub struct Machine {
    pub root: PathBuf,
    /// Why a ring cannot be made here, if so.
    pub ring: Result<(), String>,
}

impl Machine {
    /// The machine this process runs on.
    pub fn this() -> Machine {
        let ring = io_uring::IoUring::new(2).map(drop);
        Machine { root: PathBuf::from("/"), ring: ring.map_err(|error| error.to_string()) }
    }

    /// The present value of an item; nothing if this kernel does not have it.
    fn now(&self, item: &Item) -> Option<String> {
        match item {
            Item::Sysctl(name) => self.read(&format!("proc/sys/{}", name.replace('.', "/"))),
            Item::Limit { kind, resource } => self.limit(*kind, resource),
            Item::HugePages => {
                let modes = self.read("sys/kernel/mm/transparent_hugepage/enabled")?;
                let chosen = modes.split_whitespace().find(|mode| mode.starts_with('['))?;
                Some(chosen.trim_matches(['[', ']']).to_owned())
            }
            Item::Ring => Some(self.ring.clone().map_or_else(|reason| reason, |()| "works".to_owned())),
        }
    }

    /// The content of a file with single spaces between its words.
    fn read(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    fn limit(&self, kind: Kind, resource: &str) -> Option<String> {
        let label = match resource {
            "nofile" => "Max open files",
            "memlock" => "Max locked memory",
            _ => return None,
        };
        let text = fs::read_to_string(self.root.join("proc/self/limits")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(label))?;
        let column = if kind == Kind::Soft { 0 } else { 1 };
        line.split_whitespace().nth(column).map(str::to_owned)
    }
}

/// The report on a machine in `role`, and whether everything is as wanted. Reads only.
pub fn check(machine: &Machine, role: Role) -> (String, bool) {
    let name = role.name();
    let mut report = format!("Settings of this machine for the role {name}. Nothing is changed by this check.\n\n");
    let mut differing = 0;
    for wanted in wanted(role) {
        let now = machine.now(&wanted.item);
        let fits = now.as_deref().is_none_or(|now| fits(&wanted, now));
        differing += usize::from(!fits);
        let verdict = if fits { "ok     " } else { "DIFFERS" };
        let now = now.as_deref().unwrap_or("not on this kernel");
        let now = if now.is_empty() { "nothing" } else { now };
        let label = label(&wanted.item);
        let at_least = if is_minimum(&wanted.item) && wanted.value != "unlimited" { "at least " } else { "" };
        let _ = writeln!(report, "{verdict} {label}: now {now}, wanted {at_least}{}", wanted.value);
        let _ = writeln!(report, "        {}", wanted.why);
    }
    let _ = match differing {
        0 => writeln!(report, "\nEverything is as wanted."),
        _ => {
            writeln!(report, "\n{differing} settings differ. `tuning/apply --role {name}` shows what it would install.")
        }
    };
    (report, differing == 0)
}

fn label(item: &Item) -> String {
    match item {
        Item::Sysctl(name) => name.clone(),
        Item::Limit { kind: Kind::Soft, resource } => format!("soft limit {resource}"),
        Item::Limit { kind: Kind::Hard, resource } => format!("hard limit {resource}"),
        Item::HugePages => "transparent huge pages".to_owned(),
        Item::Ring => "io_uring".to_owned(),
    }
}

/// Items of which more is as good.
fn is_minimum(item: &Item) -> bool {
    const MINIMUMS: [&str; 4] = ["net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog", "fs.nr_open", "fs.file-max"];
    match item {
        Item::Sysctl(name) => MINIMUMS.contains(&name.as_str()),
        Item::Limit { .. } => true,
        Item::HugePages | Item::Ring => false,
    }
}

fn fits(wanted: &Wanted, now: &str) -> bool {
    if is_minimum(&wanted.item) {
        return amount(now) >= amount(&wanted.value);
    }
    if wanted.item == Item::Sysctl("net.ipv4.ip_local_reserved_ports".to_owned()) {
        return ports(&wanted.value).iter().all(|(first, last)| ports(now).iter().any(|(from, to)| from <= first && last <= to));
    }
    now == wanted.value
}

fn amount(text: &str) -> u128 {
    if text == "unlimited" { u128::MAX } else { text.parse().unwrap_or(0) }
}

/// The ranges of a list like `5000,6000-6100`.
fn ports(text: &str) -> Vec<(u16, u16)> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    };
    text.split(',').filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units\n\
                          Max open files            10000000             unlimited            files\n\
                          Max locked memory         unlimited            unlimited            bytes\n";

    /// A directory in which every setting of the role is as wanted.
    fn tuned(role: Role) -> (tempfile::TempDir, Machine) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let machine = Machine { root: dir.path().to_owned(), ring: Ok(()) };
        for wanted in wanted(role) {
            if let Item::Sysctl(name) = &wanted.item {
                put(&machine, &format!("proc/sys/{}", name.replace('.', "/")), &wanted.value.replace(' ', "\t"));
            }
        }
        put(&machine, "proc/self/limits", LIMITS);
        put(&machine, "sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
        (dir, machine)
    }

    fn put(machine: &Machine, path: &str, text: &str) {
        let path = machine.root.join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("created");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn a_tuned_machine_passes() {
        for role in [Role::Store, Role::Proxy] {
            let (_dir, machine) = tuned(role);
            let (report, fits) = check(&machine, role);
            assert!(fits, "{report}");
        }
    }

    #[test]
    fn differences_are_named_with_their_reason() {
        let (_dir, mut machine) = tuned(Role::Store);
        put(&machine, "proc/sys/net/core/somaxconn", "128\n");
        put(&machine, "sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
        put(&machine, "proc/self/limits", &LIMITS.replace("10000000 ", "1024 "));
        machine.ring = Err("Operation not permitted (os error 1)".to_owned());
        let (report, fits) = check(&machine, Role::Store);
        assert!(!fits);
        assert_eq!(report.matches("DIFFERS").count(), 4, "{report}");
        assert!(report.contains("DIFFERS net.core.somaxconn: now 128, wanted at least 4096\n        A shorter queue"));
        assert!(report.contains("DIFFERS soft limit nofile: now 1024, wanted at least 10000000"));
    }

    #[test]
    fn more_is_fine_and_a_setting_the_kernel_lacks_too() {
        let (_dir, machine) = tuned(Role::Store);
        put(&machine, "proc/sys/fs/file-max", "9223372036854775807\n");
        put(&machine, "proc/sys/net/ipv4/ip_local_reserved_ports", "80,6379,9100-9200,16379-26400\n");
        fs::remove_file(machine.root.join("proc/sys/kernel/io_uring_disabled")).expect("removed");
        let (report, fits) = check(&machine, Role::Store);
        assert!(fits && report.contains("now not on this kernel"), "{report}");
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let (report, _) = check(&Machine::this(), Role::Store);
        assert!(report.contains("vm.overcommit_memory: now "), "{report}");
    }

    #[test]
    fn apply_writes_only_when_asked_and_only_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let run = |arguments: &[&str]| {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/apply");
            let output = Command::new(script).args(arguments).arg("--root").arg(dir.path()).output().expect("a shell");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("text")
        };
        assert!(run(&[]).contains("would write"));
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
        assert!(run(&["--apply"]).contains("written"));
        let again = run(&["--apply"]);
        assert!(again.contains("unchanged") && !again.contains("written"), "{again}");
        let installed = fs::read_to_string(dir.path().join("etc/sysctl.d/60-kvcore.conf")).expect("installed");
        assert_eq!(installed, include_str!("../../tuning/store/sysctl.d/60-kvcore.conf"));
        assert!(dir.path().join("etc/systemd/system/kvcore.service.d/limits.conf").exists());
        assert!(run(&["--role", "proxy"]).contains("haproxy.service.d/limits.conf"));
    }
}
