// Asks a gateway in the place of Stripe and prints what the library makes of each response, a line of JSON each:
// stripe.js HOST PORT CASE. A result is {id}, an error {error, type, code, status, request}.

import Stripe from 'stripe';

const [host, port, name] = process.argv.slice(2);

function client(maxNetworkRetries) {
  return new Stripe('sk_test_1', { host, port, protocol: 'http', maxNetworkRetries, telemetry: false, timeout: 30000 });
}

async function tell(call) {
  let said;
  try {
    const done = await call();
    said = { id: done.id ?? '' };
  } catch (e) {
    said = {
      error: e.constructor.name, type: e.rawType ?? '', code: e.code ?? '', status: e.statusCode ?? 0,
      message: e.message,
    };
  }
  console.log(JSON.stringify(said));
}

const stripe = client(0);
const charge = (amount, idempotencyKey) =>
  stripe.charges.create({ amount, currency: 'eur', source: 'tok_visa' }, { idempotencyKey });

const cases = {
  async replay() {
    await tell(() => charge(100, 'replay'));
    await tell(() => charge(100, 'replay'));
  },
  async mismatch() {
    await tell(() => charge(100, 'mismatch'));
    await tell(() => charge(200, 'mismatch'));
  },
  async invalid() {
    await tell(() => charge(100, 'x'.repeat(300)));
  },
  async missing() {
    await tell(() => stripe.plans.list());
  },
  async progress() {
    const send = () => stripe.customers.create({ name: 'ann' }, { idempotencyKey: 'progress' });
    const first = tell(send);
    await stripe.balance.retrieve(); // when the first one has come to the service
    await tell(send);
    await stripe.events.retrieve('release');
    await first;
  },
  async limited() {
    await tell(() => stripe.products.create({ name: 'a' }));
    await tell(() => stripe.products.create({ name: 'a' }));
  },
  async failing() {
    await tell(() => stripe.refunds.create({ charge: 'ch_1' }, { idempotencyKey: 'f1' }));
    await tell(() => stripe.refunds.create({ charge: 'ch_1' }, { idempotencyKey: 'f2' }));
  },
  async retry() {
    const twice = client(2);
    await tell(() => twice.charges.create({ amount: 7, currency: 'eur', source: 'tok_visa' }));
  },
};

await cases[name]();
