//! `annulus-sim`: seeds are run, promises are checked, and what breaks is shown small; status 1 where one is broken, 2 where it cannot begin.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use annulus_mutants::Mutant;
use annulus_sim::{Campaign, Plan, Readable, Scope, Summary, campaign, explain, run_safely};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whole clusters of real nodes on a simulated clock, network and disk.
#[derive(Parser)]
#[command(name = "cargo xtask sim", about, version)]
struct Arguments {
    /// How many seeds: 100, or with --minutes as many as that takes.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// Only this seed; what it breaks is shrunk.
    #[arg(long, conflicts_with_all = ["seeds", "first_seed", "minutes"])]
    seed: Option<u64>,
    /// Print what happens in that seed, line by line; where it breaks a promise, in the shrunk run.
    #[arg(long)]
    trace: bool,
    /// With --trace: the whole run, not the shrunk one.
    #[arg(long, requires = "trace")]
    whole: bool,
    /// Write the shrunk plan to this file, to be kept.
    #[arg(long, requires = "seed")]
    save: Option<PathBuf>,
    /// Run the plan in this file instead of one that a seed draws.
    #[arg(long, conflicts_with_all = ["seed", "seeds", "first_seed", "minutes"])]
    plan: Option<PathBuf>,
    /// No seed is begun after so many minutes.
    #[arg(long)]
    minutes: Option<f64>,
    /// Threads; as many as there are processors by default.
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// These faults, all of them and no others, by name, separated by commas.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<String>,
    /// These workloads, all of them and no others, by name, separated by commas.
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// So many nodes, 3 to 9.
    #[arg(long, value_parser = clap::value_parser!(u8).range(3..=9))]
    nodes: Option<u8>,
    /// Show all faults and workloads.
    #[arg(long)]
    list: bool,
    /// Run every seed twice, and compare the hashes of the two traces.
    #[arg(long)]
    twice: bool,
    /// Measure: five nodes at 50 requests a simulated second, no faults.
    #[arg(long)]
    measure: bool,
    /// Plant each known bug in turn, and fail unless each is found.
    #[arg(long)]
    mutants: bool,
    /// Plant this one, and run seeds as ever: it is to be found.
    #[arg(long, conflicts_with = "mutants")]
    mutant: Option<String>,
}

impl Arguments {
    fn seeds(&self) -> u64 {
        let unbounded = self.minutes.map(|_| u64::MAX);
        self.seeds.or(unbounded).unwrap_or(100)
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            let text = error.render().to_string();
            eprintln!("{}", text.lines().next().unwrap_or_default());
            return ExitCode::from(2);
        }
        Err(error) => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
    };
    let scope = Scope {
        faults: arguments.faults.clone(),
        workloads: arguments.workloads.clone(),
        nodes: arguments.nodes.map(usize::from),
        measure: arguments.measure.then_some((5, 50, 100)),
    };
    if let Err(error) = scope.check() {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    let mutant = match arguments.mutant.as_deref().map(|name| (name, Mutant::named(name))) {
        Some((name, None)) => {
            let known = Mutant::ALL.map(|mutant| format!("{mutant:?}")).join(", ");
            eprintln!("error: there is no mutant `{name}`; there are {known}");
            return ExitCode::from(2);
        }
        Some(_) | None if (arguments.mutants || arguments.mutant.is_some()) && !cfg!(feature = "mutants") => {
            eprintln!(
                "error: bugs can be planted only in a build with the feature `mutants`; cargo xtask sim makes it"
            );
            return ExitCode::from(2);
        }
        Some((_, mutant)) => mutant,
        None => None,
    };
    annulus_mutants::plant(mutant);
    // A panic of a node is a broken promise, told with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let is_fine = match arguments.seed {
        _ if arguments.list => list(),
        _ if arguments.mutants => hunt(&arguments),
        Some(seed) => one(&Plan::draw(seed, &scope), &arguments),
        None if arguments.plan.is_some() => match arguments.plan.as_deref().map(read_plan) {
            Some(Ok(plan)) => one(&plan, &arguments),
            Some(Err(error)) => {
                eprintln!("error: {error}");
                return ExitCode::from(2);
            }
            None => true,
        },
        None if arguments.twice => twice(&arguments, &scope),
        None => many(&arguments, scope, mutant),
    };
    ExitCode::from(u8::from(!is_fine))
}

fn list() -> bool {
    println!("faults:");
    for (name, about, standing) in annulus_sim::faults() {
        println!("  {name:18} {about}{standing}");
    }
    println!("workloads: {}", annulus_sim::workloads().join(", "));
    true
}

fn jobs(arguments: &Arguments) -> usize {
    let all = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    arguments.jobs.map_or_else(all, NonZeroUsize::get)
}

fn read_plan(path: &Path) -> Result<Plan, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Plan::read(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn one(plan: &Plan, arguments: &Arguments) -> bool {
    let report = run_safely(plan, if arguments.whole { Readable::Yes } else { Readable::No });
    if arguments.whole {
        show(&plan.describe());
        show(&report.lines);
    }
    println!(
        "seed {}: {} requests, {} succeeded, trace {:016x}",
        plan.seed, report.operations, report.succeeded, report.hash
    );
    let prints_shrunk = arguments.trace && !arguments.whole;
    if report.violations.is_empty() {
        if prints_shrunk {
            show(&run_safely(plan, Readable::Yes).lines);
        }
        return true;
    }
    let failure = explain(plan, report);
    show(&failure.lines());
    if prints_shrunk {
        show(&run_safely(&failure.smallest, Readable::Yes).lines);
    }
    if let Some(path) = &arguments.save {
        match std::fs::write(path, failure.smallest.write()) {
            Ok(()) => println!("the shrunk plan is in {}", path.display()),
            Err(error) => eprintln!("error: {}: {error}", path.display()),
        }
    }
    false
}

fn show(lines: &[String]) {
    lines.iter().for_each(|line| println!("{line}"));
}

fn many(arguments: &Arguments, scope: Scope, mutant: Option<Mutant>) -> bool {
    let campaign_ = Campaign {
        first: arguments.first_seed,
        seeds: arguments.seeds(),
        within: arguments.minutes.map(|minutes| {
            // What is no length of time is no bound.
            Duration::try_from_secs_f64(minutes * 60.0).unwrap_or(Duration::MAX)
        }),
        jobs: jobs(arguments),
        scope,
        mutant,
    };
    let told = Mutex::new(Instant::now());
    let summary = campaign(&campaign_, &|summary| {
        let mut told = told.lock().expect("progress does not panic");
        if told.elapsed() > Duration::from_secs(5) {
            *told = Instant::now();
            eprintln!(
                "{} seeds, {} failures, {:.0} s",
                summary.seeds,
                summary.failures.len(),
                summary.took.as_secs_f64()
            );
        }
    });
    for failure in &summary.failures {
        failure.lines().iter().for_each(|line| println!("{line}"));
        println!(
            "again: cargo xtask sim --seed {} --trace{}",
            failure.seed,
            narrowed(arguments)
        );
    }
    print(&summary, campaign_.jobs);
    summary.failures.is_empty()
}

/// What was given beside the seeds, and decides what a seed draws.
fn narrowed(arguments: &Arguments) -> String {
    let list = |name: &str, values: &[String]| match values.is_empty() {
        true => String::new(),
        false => format!(" --{name} {}", values.join(",")),
    };
    let mutant = arguments
        .mutant
        .iter()
        .map(|mutant| format!(" --mutant {mutant}"))
        .collect::<String>();
    let nodes = arguments
        .nodes
        .map_or(String::new(), |nodes| format!(" --nodes {nodes}"));
    list("faults", &arguments.faults) + &list("workloads", &arguments.workloads) + &nodes + &mutant
}

fn print(summary: &Summary, jobs: usize) {
    println!(
        "{} seeds from {:.1} simulated hours: {} requests, {} succeeded, {} restarts of nodes, {} events",
        summary.seeds,
        summary.simulated.as_secs_f64() / 3600.0,
        summary.operations,
        summary.succeeded,
        summary.restarts,
        summary.events,
    );
    let faults: Vec<String> = summary
        .faults
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    println!(
        "faults: {}",
        if faults.is_empty() {
            "none".to_owned()
        } else {
            faults.join(", ")
        }
    );
    println!(
        "owners held the same {:.1} s after the last fault at the latest",
        summary.slowest_convergence.as_secs_f64()
    );
    println!(
        "{:.0} s: {:.1} seeds a second, {:.0} simulated seconds a second and thread",
        summary.took.as_secs_f64(),
        summary.seeds as f64 / summary.took.as_secs_f64().max(1e-9),
        summary.speed() / jobs as f64,
    );
    println!("violations: {}", summary.failures.len());
}

/// The same seed gives the same trace.
fn twice(arguments: &Arguments, scope: &Scope) -> bool {
    let mut is_same = true;
    for seed in arguments.first_seed..arguments.first_seed.saturating_add(arguments.seeds()) {
        let plan = Plan::draw(seed, scope);
        let hashes = [(); 2].map(|()| run_safely(&plan, Readable::No).hash);
        if hashes[0] != hashes[1] {
            println!("seed {seed}: {:016x}, and then {:016x}", hashes[0], hashes[1]);
            is_same = false;
        }
    }
    println!(
        "{} seeds, each twice: {}",
        arguments.seeds(),
        if is_same { "equal traces" } else { "traces differ" }
    );
    is_same
}

fn hunt(arguments: &Arguments) -> bool {
    use annulus_sim::hunt::{SEEDS, hunt};
    let hunted = hunt(
        &Mutant::ALL,
        arguments.first_seed,
        jobs(arguments),
        &|hunted| match &hunted.found {
            Some((seed, violation)) => println!(
                "{:?}: found by seed {seed}, in {:.1} s: {}: {}",
                hunted.mutant,
                hunted.took.as_secs_f64(),
                violation.promise,
                violation.detail
            ),
            None => println!(
                "{:?}: NOT FOUND in {SEEDS} seeds, {:.1} s",
                hunted.mutant,
                hunted.took.as_secs_f64()
            ),
        },
    );
    let missed = hunted.iter().filter(|hunted| hunted.found.is_none()).count();
    println!("{} planted bugs, {missed} not found", hunted.len());
    missed == 0
}
