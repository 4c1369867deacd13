//! A run that breaks a promise is made small before it is reported: fewer faults, fewer calls, fewer nodes, calmer weather.
//!
//! Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (TSE 2002). What is taken out shifts what is drawn
//! afterwards, so a smaller plan may break the promise in another way: it counts, as long as it is the same promise.

use crate::plan::Plan;
use crate::run::Report;

/// So many runs are spent on one plan.
const BUDGET: u32 = 400;

/// The smallest plan found that still breaks `promise`, with its report.
pub(crate) fn shrink(plan: &Plan, report: Report, promise: &str, run: &dyn Fn(&Plan) -> Report) -> (Plan, Report) {
    let mut search = Search {
        best: plan.clone(),
        report,
        promise,
        run,
        left: BUDGET,
    };
    let cuts: [fn(&Plan) -> Option<Plan>; 4] = [fewer_nodes, no_lost_node, no_weather, one_zone];
    for cut in cuts {
        if let Some(smaller) = cut(&search.best) {
            search.tries(smaller);
        }
    }
    search.thin_out(
        |plan| plan.faults.len(),
        |plan, from, to| drop(plan.faults.drain(from..to)),
    );
    search.thin_out(
        |plan| plan.calls.len(),
        |plan, from, to| drop(plan.calls.drain(from..to)),
    );
    search.thin_out(
        |plan| plan.faults.len(),
        |plan, from, to| drop(plan.faults.drain(from..to)),
    );
    (search.best, search.report)
}

struct Search<'a> {
    best: Plan,
    report: Report,
    promise: &'a str,
    run: &'a dyn Fn(&Plan) -> Report,
    left: u32,
}

impl Search<'_> {
    /// Keeps the plan where it breaks the promise, too.
    fn tries(&mut self, smaller: Plan) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let report = (self.run)(&smaller);
        let breaks = report
            .violations
            .iter()
            .any(|violation| violation.promise == self.promise);
        if breaks {
            self.best = smaller;
            self.report = report;
        }
        breaks
    }

    /// Takes out ever smaller pieces, until no piece can go.
    fn thin_out(&mut self, count: fn(&Plan) -> usize, cut: fn(&mut Plan, usize, usize)) {
        let mut size = count(&self.best).div_ceil(2);
        while size > 0 && self.left > 0 {
            let mut from = 0;
            let mut took = false;
            while from < count(&self.best) && self.left > 0 {
                let to = (from + size).min(count(&self.best));
                let mut smaller = self.best.clone();
                cut(&mut smaller, from, to);
                match self.tries(smaller) {
                    true => took = true,
                    false => from = to,
                }
            }
            if !took || size > 1 {
                size /= 2;
            }
        }
    }
}

fn fewer_nodes(plan: &Plan) -> Option<Plan> {
    let least = usize::from(plan.replicas).max(3);
    (plan.nodes > least).then(|| Plan {
        nodes: least,
        zones: plan.zones.min(least),
        ..plan.clone()
    })
}

fn no_lost_node(plan: &Plan) -> Option<Plan> {
    plan.lost_node.map(|_| Plan {
        lost_node: None,
        ..plan.clone()
    })
}

fn no_weather(plan: &Plan) -> Option<Plan> {
    let mut calm = plan.clone();
    calm.network.lost_per_million = 0;
    calm.network.twice_per_million = 0;
    calm.drift_ppm = vec![0; plan.nodes];
    Some(calm)
}

fn one_zone(plan: &Plan) -> Option<Plan> {
    (plan.zones > 1).then(|| Plan {
        zones: 1,
        ..plan.clone()
    })
}
