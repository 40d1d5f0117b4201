//! Hosts stop, lose what they must, and start again; the world notices what goes wrong.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use hansa_simulations::clock::SimTime;
use hansa_simulations::disk::{Crash, Loss};
use hansa_simulations::faults::Fault;
use hansa_simulations::hooks::{self, Hooks};
use hansa_simulations::network::HostId;
use hansa_simulations::trace::Trace;
use hansa_simulations::watch::{self, Violations};
use hansa_simulations::world::{HostEnv, World, WorldConfig};
use redb::StorageBackend;
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// Runs a test in a world on a fresh, hooked and watched thread.
fn in_world(run: impl FnOnce(&mut World) + Send + 'static) {
    let thread = thread::Builder::new().spawn(move || {
        let _hooks = hooks::activate(1, Hooks::default());
        let violations = Violations::default();
        let _watched = watch::watch(&violations, false);
        run(&mut World::new(WorldConfig::wide_area(1), Trace::new(), violations));
    });
    thread.unwrap().join().unwrap();
}

fn seconds(count: u64) -> SimTime {
    SimTime::at(SECOND * u32::try_from(count).unwrap())
}

/// A program that notes each second it lives, by boot and the world's time.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<(u32, u64)>>>);

impl Diary {
    async fn keep(self, env: HostEnv) -> anyhow::Result<()> {
        loop {
            let second = env.clock.now().nanos() / 1_000_000_000;
            self.0.lock().unwrap().push((env.boot, second));
            sleep(SECOND).await;
        }
    }

    fn entries(&self) -> Vec<(u32, u64)> {
        self.0.lock().unwrap().clone()
    }
}

fn add_diary(world: &mut World) -> (HostId, Diary) {
    let diary = Diary::default();
    let kept = diary.clone();
    (world.add_host("diary", move |env| kept.clone().keep(env)), diary)
}

#[test]
fn a_crashed_host_is_silent_until_it_boots_and_then_shows_the_worlds_time() {
    in_world(|world| {
        let (host, diary) = add_diary(world);
        let crash = Fault::Crash(host, Crash::Power(Loss::All));
        let noon = |second| seconds(second).after(SECOND / 2);
        world.plan([(noon(2), crash), (seconds(10), Fault::Boot(host))]);

        world.run_until(noon(12));

        assert_eq!(diary.entries(), [(0, 0), (0, 1), (0, 2), (1, 10), (1, 11), (1, 12)]);
        assert_eq!(world.crashes(), 1);
    });
}

#[test]
fn a_restored_host_boots_with_the_disk_of_the_copy() {
    in_world(|world| {
        let names = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&names);
        let host = world.add_host("keeper", move |env: HostEnv| {
            seen.lock().unwrap().push(env.folder.names().unwrap());
            async move {
                loop {
                    env.folder.create(&format!("second {}", env.clock.now().nanos() / 1_000_000_000))?;
                    env.folder.sync()?;
                    sleep(SECOND).await;
                }
            }
        });
        let noon = |second| seconds(second).after(SECOND / 2);
        world.plan([(noon(0), Fault::KeepImage(host)), (noon(3), Fault::RestoreImage(host))]);

        world.run_until(noon(6));

        assert_eq!(*names.lock().unwrap(), [vec![], vec!["second 0".to_owned()]]);
    });
}

#[test]
fn tasks_that_a_program_spawned_vanish_with_its_host() {
    in_world(|world| {
        let diary = Diary::default();
        let kept = diary.clone();
        let host = world.add_host("spawner", move |env: HostEnv| {
            let kept = kept.clone();
            async move {
                tokio::spawn(async move { tokio::spawn(kept.keep(env)).await });
                Ok(())
            }
        });

        world.run_until(seconds(3));
        world.crash(host, Crash::Process);
        let before = diary.entries().len();
        world.run_until(seconds(6));

        assert_eq!(diary.entries().len(), before);
    });
}

#[test]
fn a_power_loss_inside_the_disk_stops_the_host_and_it_boots_by_itself() {
    in_world(|world| {
        let boots = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&boots);
        let host = world.add_host("writer", move |env: HostEnv| {
            seen.lock().unwrap().push(env.folder.names().unwrap());
            async move {
                let file = env.folder.create("log")?;
                env.folder.sync()?;
                loop {
                    file.write(0, b"x")?;
                    sleep(SECOND).await;
                }
            }
        });
        world.plan([(seconds(2), Fault::PowerLossAtOp(host, 1, Loss::All))]);

        world.run_until(seconds(10));

        assert!(world.violations().is_empty(), "{:?}", world.violations().reasons());
        assert_eq!(*boots.lock().unwrap(), [vec![], vec!["log".to_owned()]]);
    });
}

#[test]
fn a_program_that_ends_after_an_io_error_is_started_again() {
    in_world(|world| {
        let host = world.add_host("writer", |env: HostEnv| async move {
            let file = env.folder.create("log")?;
            loop {
                file.write(0, b"x")?;
                sleep(SECOND).await;
            }
        });
        world.plan([(seconds(2), Fault::IoError(host))]);

        world.run_until(seconds(10));

        assert!(world.violations().is_empty(), "{:?}", world.violations().reasons());
        assert!(world.is_up(host));
        assert_eq!(world.crashes(), 1);
    });
}

#[test]
fn a_program_that_fails_for_no_reason_of_ours_fails_the_run() {
    in_world(|world| {
        world.add_host("broken", |_| async { anyhow::bail!("no idea") });

        world.run_until(seconds(1));

        assert!(world.violations().reasons()[0].contains("no idea"));
    });
}

#[test]
fn an_abort_from_any_task_stops_the_host_and_needs_an_excuse() {
    in_world(|world| {
        let host = world.add_host("aborting", |env: HostEnv| async move {
            let abort = env.abort.clone();
            if env.folder.sync().is_err() {
                tokio::spawn(async move { abort.now("a sync failed") });
            }
            Ok(())
        });
        world.disk(host).fail_next(1);

        world.run_until(seconds(5));

        assert!(world.violations().is_empty(), "{:?}", world.violations().reasons());
        assert_eq!(world.crashes(), 1);
        world.add_host("cowardly", |env: HostEnv| async move {
            env.abort.now("for no reason");
            Ok(())
        });
        world.run_until(seconds(6));
        assert!(world.violations().reasons()[0].contains("for no reason"));
    });
}

#[test]
fn a_panic_in_any_task_fails_the_run() {
    in_world(|world| {
        world.add_host("panicking", |_| async {
            tokio::spawn(async { panic!("overboard") });
            Ok(())
        });

        world.run_until(seconds(1));

        assert!(world.violations().reasons()[0].contains("overboard"));
    });
}

#[test]
fn a_question_is_answered_in_the_hosts_own_time() {
    in_world(|world| {
        let (host, _) = add_diary(world);
        world.step();

        let answer = world.ask(host, SECOND * 5, async {
            sleep(SECOND * 2).await;
            "aye"
        });

        assert_eq!(answer.unwrap(), "aye");
        assert!((seconds(2)..seconds(3)).contains(&world.now()));
        assert!(world.ask(host, SECOND, async { sleep(SECOND * 2).await }).is_err());
    });
}

#[test]
fn wall_clocks_are_wrong_each_in_its_own_way() {
    in_world(|world| {
        let walls = Arc::new(Mutex::new(Vec::new()));
        for name in ["a", "b"] {
            let walls = Arc::clone(&walls);
            world.add_host(name, move |env: HostEnv| {
                walls.lock().unwrap().push(env.wall.now().as_micros());
                async { Ok(()) }
            });
        }

        world.step();

        let walls = walls.lock().unwrap();
        assert_ne!(walls[0], walls[1]);
        assert!(walls.iter().all(|wall| wall.abs_diff(1_800_000_000_000_000) <= 1_000_000), "{walls:?}");
    });
}
