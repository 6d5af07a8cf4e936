//! The first process of a container, from its birth until it becomes the command.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use mount::{GuestPath, RootDir};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::process::{Resource, Rlimit, Signal};
use rustix::pty::OpenptFlags;
use serde::{Deserialize, Serialize};

use super::Inheritance;
use super::attach::{Depth, clone_tree};
use super::credentials::become_user;
use super::lookup;
use super::reason::Doing as _;
use super::stubs::Stub;
use super::tree::{Contents, Tree};
use super::user::{self, User};
use super::workshop::Workshop;
use crate::linux::cgroup::Cgroup;
use crate::linux::channel::Channel;
use crate::linux::frame::Frame;
use crate::linux::message::{ContainerPlan, Preparation, ProcessPlan};
use crate::linux::sys::{self, Disposition};
use crate::{LimitName, Security, SetupError};

/// What a child tells its keeper. When it says no more, it has become the command.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Sign {
    /// It was born; a descriptor of it comes along. Said by who made it, where that is not the keeper.
    Born,
    /// The container is made and waits for its plan.
    Prepared,
    /// The root is mounted, and stubs were created in it; a descriptor of the root comes along.
    Created {
        /// What was created.
        stubs: Vec<Stub>,
        /// True if those that hold others go too.
        remove_parents: bool,
    },
    /// It has a terminal, which comes along.
    Terminal,
    /// It gives up.
    Failed(SetupError),
}

/// What the first process of a container is born with.
#[derive(Debug)]
pub(super) struct Cradle<'a> {
    /// What every keeper has.
    pub inheritance: &'a Inheritance,
    /// To the keeper.
    pub signs: Channel,
    /// From the daemon, which says here what the process is to become.
    pub orders: Channel,
}

/// What a child has from its keeper.
#[derive(Debug)]
pub(super) struct Heritage<'a> {
    /// What every keeper has.
    pub inheritance: &'a Inheritance,
    /// To the keeper.
    pub signs: Channel,
    /// The standard streams, or nothing if there is to be a terminal.
    pub streams: Vec<OwnedFd>,
}

/// Lives as the first process of a container.
pub(super) fn live(cradle: Cradle<'_>, preparation: &Preparation) -> ! {
    let Cradle { inheritance, signs, orders } = cradle;
    let grown = prepare(&signs, preparation).and_then(|workshop| {
        signs.send(&Sign::Prepared, &[]).doing("report to the keeper")?;
        let plan = orders.receive::<ContainerPlan>().doing("read the plan")?;
        // The daemon has no use for us.
        let Some(frame) = plan else { sys::exit_now(0) };
        drop(orders);
        Ok((workshop, frame))
    });
    let (workshop, frame) = match grown {
        Ok(grown) => grown,
        Err(error) => give_up(&signs, error),
    };
    let Frame { message: plan, bytes, descriptors: streams } = frame;
    let heritage = Heritage { inheritance, signs, streams };
    let Err(error) = contain(&heritage, workshop, &plan, &bytes);
    give_up(&heritage.signs, error)
}

/// Lives as a further process of a container, whose namespaces it is in already.
pub(super) fn live_along(heritage: Heritage<'_>, plan: &ProcessPlan) -> ! {
    let Err(error) = accompany(&heritage, plan);
    give_up(&heritage.signs, error)
}

fn give_up(signs: &Channel, error: SetupError) -> ! {
    // If the keeper does not hear it, it is dying, and so are we.
    let _ = signs.send(&Sign::Failed(error), &[]);
    sys::exit_now(1)
}

/// Does what can be done before it is known what the container is for.
fn prepare<'a>(signs: &Channel, preparation: &'a Preparation) -> Result<Workshop<'a>, SetupError> {
    follow_keeper(signs).doing("follow the keeper")?;
    rustix::process::setsid().doing("start a session")?;
    Cgroup::join_legacy(preparation.cgroup.as_ref());
    if preparation.cgroup_namespace {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)
            .doing("separate the cgroups from the host's")?;
    }
    if preparation.shape.own_network {
        sys::loopback_up().doing("bring up the loopback network")?;
    }
    rustix::process::umask(Mode::empty());
    Workshop::open(preparation)
}

fn contain(
    heritage: &Heritage<'_>,
    workshop: Workshop<'_>,
    plan: &ContainerPlan,
    bytes: &[u8],
) -> Result<Infallible, SetupError> {
    rustix::system::sethostname(plan.hostname.as_bytes()).doing("set the host name")?;
    let contents = Contents::of(plan, bytes, workshop.shape());
    let mut tree = Tree::plant(workshop, plan, &contents)?;
    let built = build(&mut tree, plan, heritage);
    let stubs = tree.points.stubs().to_vec();
    // Said also after a failure: what was created has to go. If nothing was, the root ends with us.
    if !stubs.is_empty() {
        let root = tree.writable_root()?;
        let created = Sign::Created { stubs, remove_parents: plan.remove_stub_parents };
        heritage.signs.send(&created, &[root.as_fd()]).doing("report to the keeper")?;
    }
    let (user, terminal) = built?;
    tree.enter()?;
    become_command(heritage, &plan.process, &user, terminal)
}

fn build(
    tree: &mut Tree<'_>,
    plan: &ContainerPlan,
    heritage: &Heritage<'_>,
) -> Result<(User, Option<OwnedFd>), SetupError> {
    let user = user::resolve(tree.points.root(), &plan.process.user)?;
    make_working_directory(tree.points.root(), &plan.process.cwd, &user)?;
    tree.furnish()?;
    if !plan.process.tty {
        return Ok((user, None));
    }
    let terminal = open_terminal(tree.points.root(), &heritage.signs).doing("open a terminal")?;
    let console = clone_tree(&terminal, Path::new(""), Depth::One).doing("mount the console")?;
    let place = GuestPath::new("/dev/console").doing("mount the console")?;
    tree.points.mount(console, &place)?;
    Ok((user, Some(terminal)))
}

fn accompany(heritage: &Heritage<'_>, plan: &ProcessPlan) -> Result<Infallible, SetupError> {
    follow_keeper(&heritage.signs).doing("follow the keeper")?;
    rustix::process::setsid().doing("start a session")?;
    let open = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open("/", flags, Mode::empty())
    };
    let root = RootDir::from_fd(open().doing("open the root")?);
    let user = user::resolve(&root, &plan.user)?;
    let terminal = plan.tty.then(|| open_terminal(&root, &heritage.signs)).transpose();
    let terminal = terminal.doing("open a terminal")?;
    become_command(heritage, plan, &user, terminal)
}

/// Dies with the keeper.
fn follow_keeper(signs: &Channel) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before that; then nobody holds the other end.
    let mut polled = [PollFd::new(signs, PollFlags::empty())];
    rustix::event::poll(&mut polled, Some(&rustix::event::Timespec::default()))?;
    if polled.iter().any(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR)) {
        sys::exit_now(1);
    }
    Ok(())
}

/// Creates the working directory and what is missing above it, as the user's.
fn make_working_directory(root: &RootDir, cwd: &GuestPath, user: &User) -> Result<(), SetupError> {
    let mode = Mode::from_raw_mode(0o755);
    let made = root.create_dir_all(cwd, mode, |directory| {
        let owner = rustix::fs::Uid::from_raw(user.uid);
        Ok(rustix::fs::fchown(directory, Some(owner), Some(rustix::fs::Gid::from_raw(user.gid)))?)
    });
    made.map(drop).map_err(|error| SetupError::WorkingDirectory {
        path: cwd.to_string(),
        reason: error.to_string(),
    })
}

/// Opens a terminal of the container's own and sends its other side to the keeper.
fn open_terminal(root: &RootDir, signs: &Channel) -> io::Result<OwnedFd> {
    let path = GuestPath::new("/dev/pts/ptmx").map_err(io::Error::other)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = root.open_at(&path, flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    signs.send(&Sign::Terminal, &[master.as_fd()])?;
    Ok(terminal)
}

/// Everything from here on happens inside the container.
fn become_command(
    heritage: &Heritage<'_>,
    plan: &ProcessPlan,
    user: &User,
    terminal: Option<OwnedFd>,
) -> Result<Infallible, SetupError> {
    take_streams(&heritage.streams, terminal, user.uid).doing("take the standard streams")?;
    for limit in &plan.ulimits {
        let bound = |value: u64| (value != u64::MAX).then_some(value);
        let rlimit = Rlimit { current: bound(limit.soft), maximum: bound(limit.hard) };
        rustix::process::setrlimit(resource(limit.name), rlimit)
            .doing(&format!("set the limit `{}`", limit.name))?;
    }
    enter_working_directory(&plan.cwd, user)?;
    if plan.security == Security::Sandbox {
        sys::install_filter(&heritage.inheritance.filter)
            .doing("install the system call filter")?;
    }
    become_user(user, plan.security)?;
    // Changing the user forgot it.
    follow_keeper(&heritage.signs).doing("follow the keeper")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    for signal in super::IGNORED {
        sys::set_signal(signal, Disposition::Default);
    }
    sys::unblock_signals();
    sys::close_others_on_exec().doing("close what is not the command's")?;
    execute(plan, user)
}

fn enter_working_directory(cwd: &GuestPath, user: &User) -> Result<(), SetupError> {
    if rustix::process::chdir(cwd.as_path()).is_ok() {
        return Ok(());
    }
    // It is missing in what is mounted over the place where it was made.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).doing("open the root")?;
    make_working_directory(&RootDir::from_fd(root), cwd, user)?;
    rustix::process::chdir(cwd.as_path()).map_err(|error| SetupError::WorkingDirectory {
        path: cwd.to_string(),
        reason: error.to_string(),
    })
}

fn take_streams(streams: &[OwnedFd], terminal: Option<OwnedFd>, uid: u32) -> io::Result<()> {
    if let Some(terminal) = &terminal {
        rustix::process::ioctl_tiocsctty(terminal)?;
    }
    let streams: Vec<BorrowedFd<'_>> = match &terminal {
        Some(terminal) => vec![terminal.as_fd(); 3],
        None => streams.iter().map(OwnedFd::as_fd).collect(),
    };
    let [stdin, stdout, stderr] = streams.as_slice() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    for stream in &streams {
        // So that the user can open its own `/dev/stdout`. The null device is everybody's.
        let kind = FileType::from_raw_mode(rustix::fs::fstat(stream)?.st_mode);
        if kind != FileType::CharacterDevice || terminal.is_some() {
            rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(uid)), None)?;
        }
    }
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    Ok(())
}

fn execute(plan: &ProcessPlan, user: &User) -> Result<Infallible, SetupError> {
    let mut env = plan.env.clone();
    let has = |env: &[String], name: &str| env.iter().any(|variable| variable.starts_with(name));
    if !has(&env, "PATH=") {
        env.push(lookup::DEFAULT_PATH.to_owned());
    }
    if !has(&env, "HOME=") {
        let home = user.home.as_deref().filter(|home| !home.is_empty());
        env.push(format!("HOME={}", home.unwrap_or("/")));
    }
    let command = plan.args.first().map(String::as_str).unwrap_or_default();
    let program = lookup::find(command, &env)?;
    let c_string = |text: &String| CString::new(text.as_str());
    let args: Vec<CString> =
        plan.args.iter().map(c_string).collect::<Result<_, _>>().doing("pass the arguments")?;
    let env: Vec<CString> =
        env.iter().map(c_string).collect::<Result<_, _>>().doing("pass the environment")?;
    let path = c_string(&program).doing("name the command")?;
    let Err(errno) = nix::unistd::execve(&path, &args, &env);
    Err(lookup::not_executable(&program, rustix::io::Errno::from_raw_os_error(errno as i32)))
}

const fn resource(name: LimitName) -> Resource {
    match name {
        LimitName::Core => Resource::Core,
        LimitName::Cpu => Resource::Cpu,
        LimitName::Data => Resource::Data,
        LimitName::Fsize => Resource::Fsize,
        LimitName::Locks => Resource::Locks,
        LimitName::Memlock => Resource::Memlock,
        LimitName::Msgqueue => Resource::Msgqueue,
        LimitName::Nice => Resource::Nice,
        LimitName::Nofile => Resource::Nofile,
        LimitName::Nproc => Resource::Nproc,
        LimitName::Rss => Resource::Rss,
        LimitName::Rtprio => Resource::Rtprio,
        LimitName::Rttime => Resource::Rttime,
        LimitName::Sigpending => Resource::Sigpending,
        LimitName::Stack => Resource::Stack,
    }
}
