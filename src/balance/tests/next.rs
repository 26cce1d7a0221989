//! What one balancer hands to the next.

use super::*;

const PLAIN: Spec = (1, false, 0);

/// A configuration and its balancer.
fn at_work(queue_max: usize, specs: &[Spec]) -> (Config, Balancer) {
    let config = config(Balance::RoundRobin, queue_max, specs);
    let balancer = Balancer::new(&config);
    (config, balancer)
}

#[test]
fn a_server_that_stays_keeps_its_load_and_health_under_its_new_id() {
    let (old, before) = at_work(0, &[PLAIN, PLAIN, PLAIN]);
    let held: Vec<Claim> = (0..3).map(|_| claim(before.pick(POOL, &key(0)))).collect();
    before.struck(ServerId(2), Evidence::Unreachable, at_ms(0));
    let mut new = config(Balance::LeastConnections, 0, &[PLAIN, PLAIN, PLAIN]);
    // The first one is gone, the others stand in another order.
    new.servers.remove(0);
    new.servers.reverse();
    new.servers[1].weight = 7;
    new.pools[0].servers.pop();
    let after = Balancer::next(Some((&old, &before)), &new);
    let seen: Vec<_> = after.servers().map(|view| (view.weight, view.in_flight, view.failures)).collect();
    assert_eq!(seen, [(1, 1, 1), (7, 1, 0)]);
    for mut claim in held {
        match claim.server.0 {
            0 => assert_eq!(before.release(claim), None, "through the old one"),
            at => {
                claim.moved_to(ServerId(2 - at));
                assert_eq!(after.release(claim), None);
            }
        }
    }
    assert_eq!((in_flight(&before), in_flight(&after)), (vec![0; 3], vec![0; 2]));
    assert!(after.worked(ServerId(0), at_ms(1000)) && before.servers().all(|view| view.failures == 0));
}

#[test]
fn a_server_that_is_gone_gets_nothing_through_the_old_balancer() {
    let (old, before) = at_work(0, &[PLAIN, PLAIN]);
    let mut new = config(Balance::RoundRobin, 0, &[PLAIN]);
    new.servers[0].name = "other".into();
    let after = Balancer::next(Some((&old, &before)), &new);
    assert_eq!(visits(&before, 0, 2), "ab", "a worker has not gone over yet");
    after.bar_removed();
    assert!(before.servers().all(|view| view.admin == Admin::Gone), "another name is another server");
    assert!(matches!(before.pick(POOL, &key(0)), Pick::None));
    assert_eq!(visits(&after, 0, 3), "aaa");
}

#[test]
fn a_server_that_comes_back_is_the_same_while_somebody_uses_it() {
    let (old, first) = at_work(1, &[(1, false, 1)]);
    let held = claim(first.pick(POOL, &key(0)));
    assert_eq!(first.enqueue(POOL, waiter(1), at_ms(0)), Ok(None));
    let none = Config::default();
    let second = Balancer::next(Some((&old, &first)), &none);
    second.bar_removed();
    let third = Balancer::next(Some((&none, &second)), &none);
    let last = Balancer::next(Some((&none, &third)), &old);
    assert_eq!((in_flight(&last), last.waiting(POOL)), (vec![1], 1));
    assert_eq!(last.release(held), Some(waiter(1)), "given back through the newest");
    assert_eq!((in_flight(&first), in_flight(&last)), (vec![0], vec![0]));

    let second = Balancer::next(Some((&old, &last)), &none);
    second.bar_removed();
    drop((first, last));
    let last = Balancer::next(Some((&none, &second)), &old);
    assert_eq!(last.waiting(POOL), 0, "nobody used it: it begins anew");
}

#[test]
fn a_balancer_that_was_built_for_nothing_leaves_nobody_out() {
    let (old, before) = at_work(0, &[PLAIN, PLAIN]);
    _ = Balancer::next(Some((&old, &before)), &Config::default());
    let after = Balancer::next(Some((&old, &before)), &old);
    assert_eq!(visits(&after, 0, 4), "abab");
}

#[test]
fn servers_that_are_twice_in_a_pool_stay_apart() {
    let mut old = config(Balance::RoundRobin, 0, &[PLAIN, PLAIN]);
    old.servers[1].name = old.servers[0].name.clone();
    old.servers[1].address = old.servers[0].address.clone();
    let before = Balancer::new(&old);
    let held = claim(before.pick(POOL, &Key { tried: &[ServerId(0)], ..key(0) }));
    let after = Balancer::next(Some((&old, &before)), &old);
    assert_eq!(in_flight(&after), [0, 1]);
    assert_eq!(after.release(held), None);
}

#[test]
fn limits_and_queues_of_the_new_configuration_hold() {
    let (old, before) = at_work(1, &[(1, false, 2)]);
    let held = [claim(before.pick(POOL, &key(0))), claim(before.pick(POOL, &key(0)))];
    assert_eq!(before.enqueue(POOL, waiter(1), at_ms(0)), Ok(None));
    assert_eq!(before.enqueue(POOL, waiter(2), at_ms(0)), Err(QueueFull));

    let less = config(Balance::RoundRobin, 2, &[(1, false, 1)]);
    let after = Balancer::next(Some((&old, &before)), &less);
    assert_eq!(after.waiting(POOL), 1, "who waits goes on waiting");
    assert_eq!(after.enqueue(POOL, waiter(2), at_ms(0)), Ok(None), "the queue is longer");
    let [first, second] = held;
    assert_eq!(after.release(first), Some(waiter(1)));
    assert!(
        matches!(after.pick(POOL, &Key { turn: true, ..key(0) }), Pick::Full),
        "one is one too many still"
    );
    assert_eq!(after.requeue_front(POOL, waiter(1), at_ms(0)), None);

    let more = config(Balance::RoundRobin, 2, &[(1, false, 3)]);
    let last = Balancer::next(Some((&less, &after)), &more);
    for n in [1, 2] {
        assert_eq!(last.wake_next(POOL, at_ms(0)), Some(waiter(n)), "there is room for both now");
        assert!(matches!(last.pick(POOL, &Key { turn: true, ..key(0) }), Pick::Server(_)));
    }
    assert_eq!(last.wake_next(POOL, at_ms(0)), None);
    assert_eq!(last.release(second), None);
    assert_eq!(in_flight(&before), [2]);
}

#[test]
fn a_pool_keeps_its_counter_and_its_budget() {
    let (old, before) = at_work(0, &[PLAIN, PLAIN]);
    assert_eq!(visits(&before, 0, 1), "a");
    assert!((0..10).all(|_| before.may_retry(POOL, at_ms(0))));
    let after = Balancer::next(Some((&old, &before)), &old);
    assert_eq!(visits(&after, 0, 2), "ba");
    assert!(!after.may_retry(POOL, at_ms(0)));
    let mut renamed = config(Balance::RoundRobin, 0, &[PLAIN, PLAIN]);
    renamed.pools[0].name = "other".into();
    let other = Balancer::next(Some((&old, &after)), &renamed);
    assert_eq!(visits(&other, 0, 1), "a");
    assert!(other.may_retry(POOL, at_ms(0)), "another pool has a budget of its own");
}

#[test]
fn orders_are_kept_too() {
    let (old, before) = at_work(0, &[PLAIN, PLAIN]);
    before.set_admin(ServerId(0), Admin::Drain, at_ms(0));
    assert_eq!(visits(&before, 0, 3), "bbb");
    let after = Balancer::next(Some((&old, &before)), &old);
    assert_eq!(visits(&after, 0, 3), "bbb");
    after.set_admin(ServerId(1), Admin::Maint, at_ms(0));
    assert!(matches!(before.pick(POOL, &key(0)), Pick::None), "nobody is left, and nobody is tried anyway");
    after.set_admin(ServerId(0), Admin::Ready, at_ms(0));
    assert_eq!(visits(&after, 0, 3), "aaa");
}
