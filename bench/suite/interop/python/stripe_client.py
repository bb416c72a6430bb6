"""Asks a gateway in the place of Stripe and prints what the library makes of each response, a line of JSON each:
stripe_client.py HOST PORT CASE. The lines are those of node/stripe.js."""

import json
import sys
import threading

import stripe

host, port, name = sys.argv[1:4]
printing = threading.Lock()


def client(retries):
    return stripe.StripeClient(
        "sk_test_1", base_addresses={"api": f"http://{host}:{port}"}, max_network_retries=retries
    ).v1


def tell(call):
    try:
        said = {"id": getattr(call(), "id", "")}
    except stripe.StripeError as e:
        said = {
            "error": type(e).__name__,
            "type": (e.error.type if e.error else "") or "",
            "code": (e.error.code if e.error else "") or "",
            "status": e.http_status or 0,
            "message": str(e),
        }
    with printing:
        print(json.dumps(said), flush=True)


api = client(0)


def keyed(key):
    return {"idempotency_key": key}


def charge(amount, key):
    return api.charges.create({"amount": amount, "currency": "eur", "source": "tok_visa"}, keyed(key))


def replay():
    tell(lambda: charge(100, "replay"))
    tell(lambda: charge(100, "replay"))


def mismatch():
    tell(lambda: charge(100, "mismatch"))
    tell(lambda: charge(200, "mismatch"))


def invalid():
    tell(lambda: charge(100, "x" * 300))


def missing():
    tell(lambda: api.plans.list())


def progress():
    def send():
        return api.customers.create({"name": "ann"}, keyed("progress"))

    first = threading.Thread(target=lambda: tell(send))
    first.start()
    api.balance.retrieve()  # when the first one has come to the service
    tell(send)
    api.events.retrieve("release")
    first.join()


def limited():
    tell(lambda: api.products.create({"name": "a"}))
    tell(lambda: api.products.create({"name": "a"}))


def failing():
    tell(lambda: api.refunds.create({"charge": "ch_1"}, keyed("f1")))
    tell(lambda: api.refunds.create({"charge": "ch_1"}, keyed("f2")))


def retry():
    charges = client(2).charges
    tell(lambda: charges.create({"amount": 7, "currency": "eur", "source": "tok_visa"}))


globals()[name]()
