//! A graph as text: one paragraph a vertex, inputs by number, nothing that is as always.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use llb::{
    Action, ActionInput, CopyMode, Definition, Edge, ExecOp, FileOp, Mount, MountKind, NetMode, Op,
    SecurityMode, UserRef, Vertex,
};

/// Returns a graph as text.
pub(crate) fn render(definition: &Definition) -> String {
    if definition.is_empty() {
        return "(empty)\n".to_owned();
    }
    let graph = definition.load().unwrap();
    let mut numbers = BTreeMap::new();
    let mut text = String::new();
    for (number, vertex) in graph.vertices.iter().enumerate() {
        numbers.insert(vertex.digest, number);
        text.push_str(&render_vertex(number, vertex, &numbers, definition));
    }
    let _ = writeln!(text, "= {}", edge(&graph.root, &numbers));
    text
}

fn edge(edge: &Edge, numbers: &BTreeMap<digests::VertexDigest, usize>) -> String {
    let number = numbers[&edge.vertex];
    if edge.output == 0 { format!("#{number}") } else { format!("#{number}.{}", edge.output) }
}

fn render_vertex(
    number: usize,
    vertex: &Vertex,
    numbers: &BTreeMap<digests::VertexDigest, usize>,
    definition: &Definition,
) -> String {
    let mut text = format!("#{number} {}\n", vertex.name);
    let inputs: Vec<_> = vertex.inputs.iter().map(|input| edge(input, numbers)).collect();
    let mut line = |content: String| {
        let _ = writeln!(text, "   {content}");
    };
    match &vertex.op {
        Op::Source(source) => {
            line(source.identifier.clone());
            for (key, value) in &source.attributes {
                line(format!("{key}={value}"));
            }
        }
        Op::Exec(exec) => exec_lines(exec, &inputs).into_iter().for_each(&mut line),
        Op::File(file) => file_lines(file, &inputs).into_iter().for_each(&mut line),
        Op::Merge => line(format!("merge {}", inputs.join(" "))),
        other => line(format!("{other:?}")),
    }
    if let Some(platform) = vertex.platform.as_ref().filter(|p| p.to_string() != "linux/amd64") {
        line(format!("platform {platform}"));
    }
    let metadata = &vertex.metadata;
    if metadata.ignore_cache {
        line("without cache".to_owned());
    }
    if let Some(group) = &metadata.progress_group {
        line(format!("group {:?}{}", group.name, if group.weak { " weak" } else { "" }));
    }
    if let Some(resources) = &metadata.linux_resources {
        line(format!("memory {}", resources.memory));
    }
    for (key, value) in &metadata.description {
        if key != "llb.customname" {
            line(format!("{} {value:?}", key.rsplit('.').next().unwrap_or_default()));
        }
    }
    for place in definition.source_of(&vertex.digest) {
        let lines: Vec<_> = place.ranges.iter().map(|r| r.start.line.to_string()).collect();
        line(format!("lines {}", lines.join(",")));
    }
    text
}

fn exec_lines(exec: &ExecOp, inputs: &[String]) -> Vec<String> {
    let mut lines = vec![format!("run {:?}", exec.args)];
    lines.push(format!("in {} env {}", exec.cwd, exec.env.join(" ")));
    let mut put = |set: bool, text: String| {
        if set {
            lines.push(text);
        }
    };
    put(!exec.user.is_empty(), format!("user {}", exec.user));
    put(exec.proxy.is_some(), format!("proxy {:?}", exec.proxy));
    put(!exec.extra_hosts.is_empty(), format!("hosts {:?}", exec.extra_hosts));
    put(!exec.hostname.is_empty(), format!("hostname {}", exec.hostname));
    put(!exec.ulimits.is_empty(), format!("ulimits {:?}", exec.ulimits));
    put(!exec.cgroup_parent.is_empty(), format!("cgroup {}", exec.cgroup_parent));
    put(exec.network != NetMode::Sandbox, format!("network {:?}", exec.network));
    put(exec.security != SecurityMode::Sandbox, format!("security {:?}", exec.security));
    put(!exec.secret_env.is_empty(), format!("secret env {:?}", exec.secret_env));
    put(!exec.devices.is_empty(), format!("devices {:?}", exec.devices));
    lines.extend(exec.mounts.iter().map(|mount| mount_line(mount, inputs)));
    lines
}

fn mount_line(mount: &Mount, inputs: &[String]) -> String {
    let mut text = format!("at {} ", mount.dest);
    match &mount.kind {
        MountKind::Bind => text.push_str("bind"),
        MountKind::Cache(cache) => {
            let _ = write!(text, "cache {:?} {:?}", cache.id, cache.sharing);
        }
        MountKind::Tmpfs { size } => {
            let _ = write!(text, "tmpfs {size}");
        }
        MountKind::Secret(secret) => {
            let _ = write!(text, "secret {} {:o}", secret.id, secret.mode);
            let _ = write!(text, " {}:{}", secret.uid, secret.gid);
            text.push_str(if secret.optional { " optional" } else { " required" });
        }
        MountKind::Ssh(ssh) => {
            let _ = write!(text, "ssh {:?} {:o} {}:{}", ssh.id, ssh.mode, ssh.uid, ssh.gid);
            text.push_str(if ssh.optional { " optional" } else { " required" });
        }
    }
    if let Some(input) = mount.input {
        let _ = write!(text, " {}", inputs[input]);
    }
    if !mount.selector.is_empty() {
        let _ = write!(text, " of {}", mount.selector);
    }
    if mount.readonly {
        text.push_str(" read-only");
    }
    if let Some(output) = mount.output {
        let _ = write!(text, " -> {output}");
    }
    text
}

fn file_lines(file: &FileOp, inputs: &[String]) -> Vec<String> {
    let place = |input: &ActionInput| match input {
        ActionInput::Scratch => "scratch".to_owned(),
        ActionInput::Input(index) => inputs[*index].clone(),
        ActionInput::Action(index) => format!("step {index}"),
    };
    let line = |(number, action): (usize, &llb::FileAction)| {
        let base = place(&action.input);
        let from = place(&action.secondary_input);
        format!("step {number} on {base}: {}", action_text(&action.action, &from))
    };
    file.actions.iter().enumerate().map(line).collect()
}

fn action_text(action: &Action, from: &str) -> String {
    let mut text = match action {
        Action::Copy(copy) => copy_text(copy, from),
        Action::MakeFile(file) => {
            let data = String::from_utf8_lossy(&file.data);
            format!("file {} {:o} {data:?}", file.path, file.mode)
        }
        Action::MakeDir(dir) => {
            let parents = if dir.make_parents { " with parents" } else { "" };
            let time = dir.timestamp.map(|time| format!(" time {time}")).unwrap_or_default();
            format!("directory {} {:o}{parents}{time}", dir.path, dir.mode)
        }
        Action::Remove(remove) => format!("remove {}", remove.path),
        Action::Symlink(link) => format!("link {} -> {}", link.path, link.target),
    };
    if let Some(owner) = action.owner() {
        let user = |user: &Option<UserRef>| match user {
            None => "-".to_owned(),
            Some(UserRef::Id(id)) => id.to_string(),
            Some(UserRef::Name { name, .. }) => name.clone(),
        };
        let _ = write!(text, " owner {}:{}", user(&owner.user), user(&owner.group));
    }
    text
}

fn copy_text(copy: &llb::CopyFiles, from: &str) -> String {
    let mut text = format!("copy {from} {} to {}", copy.src, copy.dest);
    let flags = [
        (copy.follow_symlink, "follow"),
        (copy.dir_copy_contents, "contents"),
        (copy.attempt_unpack, "unpack"),
        (copy.create_dest_path, "parents"),
        (copy.allow_wildcard, "wildcard"),
        (copy.allow_empty_wildcard, "empty"),
    ];
    for (_, flag) in flags.iter().filter(|(set, _)| *set) {
        let _ = write!(text, " +{flag}");
    }
    for (name, list) in [
        ("include", &copy.include_patterns),
        ("exclude", &copy.exclude_patterns),
        ("require", &copy.required_paths),
    ] {
        if !list.is_empty() {
            let _ = write!(text, " {name} {list:?}");
        }
    }
    match &copy.mode {
        None => {}
        Some(CopyMode::Bits(bits)) => {
            let _ = write!(text, " mode {bits:o}");
        }
        Some(CopyMode::Symbolic(change)) => {
            let _ = write!(text, " mode {change}");
        }
    }
    text
}
