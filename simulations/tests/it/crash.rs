//! redb keeps its promises on our disk: what was committed survives every kind of power loss.

use std::collections::BTreeMap;

use hansa_simulations::dice::Dice;
use hansa_simulations::disk::{Crash, Loss, SimDisk, SimFolder};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
const FILE: &str = "store.redb";

type Rows = BTreeMap<u64, Vec<u8>>;

/// Opens the store; makes it under another name first, where there is none.
fn open(folder: &SimFolder) -> Result<Database, redb::Error> {
    let builder = |file| Database::builder().set_cache_size(1 << 20).create_with_backend(file);
    if !folder.exists(FILE)? {
        drop(builder(folder.create("new")?)?);
        folder.rename("new", FILE)?;
        folder.sync()?;
    }
    Ok(builder(folder.open(FILE)?)?)
}

fn read(database: &Database) -> Rows {
    match database.begin_read().unwrap().open_table(TABLE) {
        Ok(table) => table
            .iter()
            .unwrap()
            .map(|row| row.map(|(key, value)| (key.value(), value.value().to_vec())).unwrap())
            .collect(),
        Err(redb::TableError::TableDoesNotExist(_)) => Rows::new(),
        Err(error) => panic!("{error}"),
    }
}

/// One random transaction of a few inserts and removals; `rows` becomes what it should leave.
fn commit(database: &Database, dice: &mut Dice, rows: &mut Rows) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    let mut table = transaction.open_table(TABLE)?;
    for _ in 0..dice.between(1, 20) {
        let key = dice.below(500);
        if dice.chance(0.25) {
            table.remove(key)?;
            rows.remove(&key);
        } else {
            let length = if dice.chance(0.02) { 9_000 } else { dice.between(1, 400) };
            let value = vec![dice.below(256) as u8; length as usize];
            table.insert(key, value.as_slice())?;
            rows.insert(key, value);
        }
    }
    drop(table);
    transaction.commit()?;
    Ok(())
}

/// Commits until power fails. Answers what is acknowledged, and what the transaction in flight would leave.
fn commit_until_power_fails(disk: &SimDisk, dice: &mut Dice, rows: Rows) -> (Rows, Rows) {
    let Ok(database) = open(&disk.mount()) else { return (rows.clone(), rows) };
    let mut acknowledged = rows;
    loop {
        let mut next = acknowledged.clone();
        if commit(&database, dice, &mut next).is_err() {
            assert!(disk.is_dead());
            return (acknowledged, next);
        }
        acknowledged = next;
    }
}

/// Loses power again and again while the store recovers.
fn crash_in_recovery(disk: &SimDisk, dice: &mut Dice) {
    while dice.chance(0.4) {
        disk.crash_at_op(dice.between(1, 30));
        let _ = open(&disk.mount());
        disk.crash(Crash::Power(loss(dice)));
    }
}

fn loss(dice: &mut Dice) -> Loss {
    Loss::EVERY[dice.index(Loss::EVERY.len())]
}

#[test]
fn no_acknowledged_commit_is_lost_and_none_is_half_there_after_four_hundred_power_losses() {
    let mut survived_in_flight = 0;
    for disk_number in 0..20 {
        let mut dice = Dice::new(42, "crash test", disk_number);
        let disk = SimDisk::new(42, disk_number);
        let mut rows = Rows::new();
        for _ in 0..20 {
            disk.crash_at_op(dice.between(1, 300));
            let (acknowledged, in_flight) = commit_until_power_fails(&disk, &mut dice, rows);
            let loss = loss(&mut dice);
            disk.crash(Crash::Power(loss));
            crash_in_recovery(&disk, &mut dice);

            let found = read(&open(&disk.mount()).unwrap());

            assert!(found == acknowledged || found == in_flight, "disk {disk_number} after {loss:?}");
            survived_in_flight += u32::from(found != acknowledged);
            rows = found;
        }
    }
    // Nearly always absent, now and then present: both must be seen by callers as unknown.
    assert!(survived_in_flight < 100, "{survived_in_flight}");
}

#[test]
fn a_power_loss_while_the_store_is_created_never_leaves_one_that_cannot_be_opened() {
    for operation in 1..40 {
        for (number, loss) in Loss::EVERY.into_iter().enumerate() {
            let disk = SimDisk::new(operation, number as u64);
            disk.crash_at_op(operation);
            let _ = open(&disk.mount());
            disk.crash(Crash::Power(loss));

            assert!(open(&disk.mount()).is_ok(), "after {operation} operations and {loss:?}");
        }
    }
}

#[test]
fn after_an_io_error_writes_fail_until_the_store_is_opened_anew() {
    let disk = SimDisk::new(1, 0);
    let mut dice = Dice::new(1, "io", 0);
    let mut rows = Rows::new();
    let database = open(&disk.mount()).unwrap();
    commit(&database, &mut dice, &mut rows).unwrap();
    disk.fail_next(1);

    assert!(commit(&database, &mut dice, &mut rows.clone()).is_err());
    assert!(commit(&database, &mut dice, &mut rows.clone()).is_err());

    drop(database);
    assert_eq!(read(&open(&disk.mount()).unwrap()), rows);
}
