//! The command line: arguments in; data, messages and an exit status out.

mod application;
mod args;
mod ask;
mod assuan;
mod benchmark;
mod check;
mod compact;
mod completions;
mod config;
mod convert;
mod cost;
mod create;
mod device;
mod doctor;
mod edit;
mod erase;
mod folders;
mod front;
mod fstab;
mod header;
mod hidden;
mod images;
mod info;
mod interrupt;
mod key;
mod limits;
mod listing;
mod manual;
mod mounting;
mod mountpoint;
mod oddity;
mod opening;
mod output;
mod pin;
mod pinentry;
mod plan;
mod progress;
mod prompt;
mod qr;
mod recovery;
mod reencrypt;
mod remembered;
mod report;
mod resize;
mod secrets;
mod size;
mod stick;
mod strength;
mod unlock;
mod unmounting;
mod usage;

use std::{
    ffi::OsString,
    io::{self, Write},
    panic::{self, PanicHookInfo},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use clap::{CommandFactory, FromArgMatches, error::ErrorKind as Clap};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use strongroom::{
    error::{Error, ErrorKind, Result},
    mount,
    sys::{alloc::on_failure, limits::have_stack, process::end_at_once},
    volume::{DeviceName, container_file},
};

use args::{Arguments, Command, HelpOptions};
use output::{Console, complain, print};
use report::report;

/// Runs the command that the program's arguments ask for.
pub(crate) fn main() -> ExitCode {
    panic::set_hook(Box::new(tell_of_panic));
    on_failure(end_without_memory);
    if !have_stack() {
        complain("strongroom: error: there is too little room for the stack");
        complain("strongroom: hint: raise the limit, to 8192 KiB say: see ulimit -s");
        return ExitCode::from(report::exit_status(ErrorKind::OutOfMemory));
    }
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if fstab::is_called(&arguments) {
        return help_mount(&arguments);
    }
    if arguments.get(1).is_some_and(|argument| argument == mount::SERVE) {
        return mount::serve();
    }
    if arguments.get(1).is_some_and(|argument| argument == mount::LOOK) {
        let rest = arguments.iter().skip(2).map(|argument| argument.to_string_lossy().into_owned());
        return mount::look(&rest.collect::<Vec<_>>());
    }
    if let (Some(first), Some(path)) = (arguments.get(1), arguments.get(2))
        && first == mount::REACH
    {
        return mount::reach(path.as_ref());
    }
    if arguments.get(1).is_some_and(|argument| argument == application::WORD) {
        return ExitCode::from(serve_desktop(arguments.get(2)));
    }
    ExitCode::from(run_to_the_end(&arguments))
}

/// What the bus of a desktop started.
fn serve_desktop(name: Option<&OsString>) -> u8 {
    let console = Console::before_options(false);
    let served =
        forbid_dumps().and_then(|()| interrupt::watch(console)).and_then(|()| application::run(name));
    served.map_or_else(|error| report(console, &error), |()| 0)
}

/// The helper of mount(8).
fn help_mount(arguments: &[OsString]) -> ExitCode {
    let status = match fstab::translate(arguments) {
        Ok(Some(words)) => run_to_the_end(&words),
        Ok(None) => 0,
        Err(error) => report(Console::before_options(false), &error),
    };
    ExitCode::from(fstab::exit_status(status))
}

/// Gives the exit status, and no panic's own 101, which is none of ours: what was begun has been undone by unwinding.
fn run_to_the_end(arguments: &[OsString]) -> u8 {
    panic::catch_unwind(|| run(arguments)).unwrap_or_else(|_| {
        let is_short = IS_SHORT_OF_THREADS.load(Ordering::SeqCst);
        report::exit_status(if is_short { ErrorKind::OutOfMemory } else { ErrorKind::Io })
    })
}

/// All of clap's knowledge of the command line.
fn command() -> clap::Command {
    // Of one alone clap would change the place in the list.
    Arguments::command().mut_subcommands(|command| {
        if !["create", "mount", "open", "stick"].contains(&command.get_name()) {
            return command;
        }
        command.mut_args(|argument| {
            let is_rare = args::is_rare(argument.get_id().as_str());
            if is_rare { argument.hide_short_help(true) } else { argument }
        })
    })
}

/// Gives the exit status.
fn run(arguments: &[OsString]) -> u8 {
    let mut parsed =
        match command().try_get_matches_from(arguments).and_then(|it| Arguments::from_arg_matches(&it)) {
            Ok(parsed) => parsed,
            Err(refusal) => return refuse(&refusal, arguments),
        };
    let console = Console::new(parsed.output);
    ask::prefer(parsed.output.ask, parsed.output.json);
    let is_desktop = matches!(&parsed.command, Command::Open(options) if options.show);
    let (status, told) =
        match resolve_device(&mut parsed.command).and_then(|()| obey(console, &mut parsed.command)) {
            Ok(status) => (status, output::take_warnings().join("\n")),
            // Who closed the window knows.
            Err(error) if error.kind() == ErrorKind::Interrupted => (report(console, &error), String::new()),
            Err(error) => (report(console, &error), report::in_words(&error)),
        };
    ask::tell(is_desktop, status != 0, &told);
    status
}

/// Puts the path of the device in the place of `UUID=...` and `LABEL=...`.
fn resolve_device(command: &mut Command) -> Result<()> {
    let Some(path) = command.container_mut() else { return Ok(()) };
    if let Some(name) = DeviceName::of(path) {
        *path = name.find()?;
    }
    Ok(())
}

/// Refuses what no folder of pieces can be made to do.
fn refuse_folder(command: &Command) -> Result<()> {
    let Command::Reencrypt(options) = command else { return Ok(()) };
    let path = options.container.as_path();
    if interrupt::asking_at_liberty(path, || Ok(container_file(path)))?.is_none() {
        return Ok(());
    }
    let reason = "a folder of pieces keeps its volume key, which its piece map is made under";
    Err(Error::new(ErrorKind::Unsupported, reason)
        .with_hint(
            "make one file of it: strongroom convert CONTAINER FILE; then strongroom reencrypt FILE, and strongroom convert FILE NEW --split SIZE",
        )
        .during(format!("cannot use {}", path.display())))
}

/// Gives the exit status of a command that was carried out.
fn obey(console: Console, command: &mut Command) -> Result<u8> {
    forbid_dumps()?;
    interrupt::watch(console)?;
    config::apply(console, command)?;
    refuse_folder(command)?;
    if let Command::Open(options) = command {
        opening::believe_file(options);
    }
    let done = match &*command {
        // What it finds is its result, and no error.
        Command::Check(options) => return check::run(console, options),
        // Several volumes may fail, each with a line of its own.
        Command::Unmount(options) => return unmounting::unmount(console, options),
        Command::Close(options) => return opening::close(console, options),
        Command::Create(options) => create::run(console, options),
        Command::Mount(options) => mounting::mount(console, options),
        Command::Open(options) => opening::open(console, options),
        Command::List(options) if options.names => completions::names(),
        Command::List(_) => listing::list(console),
        Command::Sync(options) => unmounting::sync(console, options),
        Command::Forget(options) => remembered::forget(console, options),
        Command::Info(options) => info::run(console, options),
        Command::Key(command) => key::run(console, command),
        Command::Header(command) => header::run(console, command),
        Command::Reencrypt(options) => reencrypt::run(console, options),
        Command::Resize(options) => resize::run(console, options),
        Command::Compact(options) => compact::run(console, options),
        Command::Convert(options) => convert::run(console, options),
        Command::Stick(options) => stick::run(console, options),
        Command::Import(options) => images::import(console, options),
        Command::Export(options) => images::export(console, options),
        Command::Erase(options) => erase::run(console, options),
        Command::Doctor => doctor::run(console),
        Command::Benchmark => benchmark::run(console),
        Command::Completions(options) => completions::run(options.shell),
        Command::Man(options) => manual::run(&options.command),
        Command::Help(options) => help(options),
    };
    done.map(|()| 0)
}

/// The command that words name, as far as they name one: the words that call it, what clap knows of it, and what names none.
fn find_command<'a>(words: impl IntoIterator<Item = &'a str>) -> ((String, clap::Command), Option<&'a str>) {
    let (mut path, mut at) = ("strongroom".to_owned(), command());
    at.build();
    for word in words {
        let Some(next) = at.find_subcommand(word).cloned() else { return ((path, at), Some(word)) };
        path = format!("{path} {}", next.get_name());
        at = next;
    }
    ((path, at), None)
}

/// Prints what `--help` prints of the command that the words name.
fn help(options: &HelpOptions) -> Result<()> {
    let ((path, mut command), unknown) = find_command(options.command.iter().map(String::as_str));
    match unknown {
        None => print(&command.render_long_help().to_string()),
        Some(word) => Err(Error::new(ErrorKind::Usage, "unknown command")
            .during(word)
            .with_hint(format!("see {path} --help"))),
    }
}

/// Help and version are answers; everything else is wrong usage. Without any argument there is help too, as nobody knows yet what to ask.
fn refuse(refusal: &clap::Error, arguments: &[OsString]) -> u8 {
    let words: Vec<String> =
        arguments.iter().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    let console = Console::before_options(words.iter().any(|word| word == "--json"));
    if matches!(refusal.kind(), Clap::DisplayHelp | Clap::DisplayVersion) {
        return match print(&refusal.render().to_string()) {
            Ok(()) => 0,
            Err(error) => report(console, &error),
        };
    }
    if refusal.kind() == Clap::InvalidSubcommand && words.iter().any(|word| word == "help") {
        // `key help` for `help key`.
        let command =
            words.iter().filter(|word| *word != "help" && !word.starts_with('-')).cloned().collect();
        return help(&HelpOptions { command }).map_or_else(|error| report(console, &error), |()| 0);
    }
    if words.is_empty() {
        complain(command().render_help().to_string().trim_end());
        return report::exit_status(ErrorKind::Usage);
    }
    report(console, &usage::from_clap(refusal, &words))
}

/// Keeps the passwords in this process from core dumps and from other processes of the same user.
fn forbid_dumps() -> Result<()> {
    let cannot = |errno| Error::from(std::io::Error::from(errno)).during("cannot forbid core dumps");
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(cannot)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(cannot)
}

/// Memory is asked for in places that know no errors. Nothing is half-made: what was begun has no name yet, or is as after a
/// power cut.
fn end_without_memory() {
    // Neither of the two asks for memory.
    let line = b"strongroom: error: out of memory\nstrongroom: hint: close other programs, or raise the limit: see ulimit -v\n";
    let _ = io::stderr().write_all(line);
    end_at_once(report::exit_status(ErrorKind::OutOfMemory))
}

/// Where no thread can be had, libraries panic.
static IS_SHORT_OF_THREADS: AtomicBool = AtomicBool::new(false);

fn is_short_of_threads(panic: &PanicHookInfo<'_>) -> bool {
    let payload = panic.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or_default();
    text.contains("code: 11") || text.contains("Resource temporarily unavailable")
}

/// One line that says where, and nothing of what was being worked on.
fn tell_of_panic(panic: &PanicHookInfo<'_>) {
    if is_short_of_threads(panic) {
        if !IS_SHORT_OF_THREADS.swap(true, Ordering::SeqCst) {
            complain("strongroom: error: no more threads can be started");
            complain("strongroom: hint: end other programs, or raise the limit: see ulimit -u");
        }
        return;
    }
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    complain(&format!("strongroom: error: strongroom failed: internal error at {place}"));
    complain("strongroom: hint: please report this line");
}
