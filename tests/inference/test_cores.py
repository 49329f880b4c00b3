from __future__ import annotations

import threading
import time

from appliance.inference.cores import Cores


def test_patient_work_waits_while_an_answer_is_written() -> None:
    cores, order = Cores(patience_s=30), []

    def documents() -> None:
        with cores.turn(patient=True):
            order.append("documents")

    with cores.urgent():
        thread = threading.Thread(target=documents)
        thread.start()
        for _ in range(5):
            with cores.turn():
                order.append("token")
            time.sleep(0.01)
    thread.join(5)
    assert order == ["token"] * 5 + ["documents"]


def test_patient_work_is_never_starved() -> None:
    cores = Cores(patience_s=0.05)
    got = threading.Event()

    def documents() -> None:
        with cores.turn(patient=True):
            got.set()

    with cores.urgent():
        thread = threading.Thread(target=documents)
        thread.start()
        assert got.wait(5)
    thread.join(5)


def test_one_computes_at_a_time() -> None:
    cores, inside, most = Cores(), 0, 0
    lock = threading.Lock()

    def work(patient: bool) -> None:
        nonlocal inside, most
        for _ in range(20):
            with cores.turn(patient=patient):
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.0005)
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=work, args=(n % 2 == 0,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == 1
