"""The rounds of FedJAX on the same hospitals: a program for another Python, which has FedJAX and not this package.

Usage: python fedjax_program.py hospitals.npz ROUNDS; prints a JSON list of seconds.
"""

import json
import sys
import time
from typing import Any

import fedjax
import jax
import jax.numpy as jnp
import numpy as np
from fedjax.algorithms import fed_avg

RATE, BATCH, WEIGHT_DECAY = 0.15, 64, 0.01


def loss(weights: Any, batch: Any, _: Any) -> Any:
    """Log loss of logistic regression, and the penalty on its kernel."""
    log_odds = batch["inputs"] @ weights["kernel"] + weights["bias"]
    each = jnp.maximum(log_odds, 0) - log_odds * batch["labels"] + jnp.log1p(jnp.exp(-jnp.abs(log_odds)))
    return jnp.mean(each) + WEIGHT_DECAY / 2 * jnp.sum(weights["kernel"] ** 2)


def main(path: str, rounds: int) -> None:
    """Run FedAvg with one epoch of each hospital per round."""
    algorithm = fed_avg.federated_averaging(
        jax.grad(loss),
        client_optimizer=fedjax.optimizers.sgd(RATE),
        server_optimizer=fedjax.optimizers.sgd(1.0),
        client_batch_hparams=fedjax.ShuffleRepeatBatchHParams(batch_size=BATCH, num_epochs=1),
    )
    with np.load(path) as arrays:
        pairs = list(zip(arrays["inputs"], arrays["labels"], strict=True))
    hospitals = [fedjax.ClientDataset({"inputs": inputs, "labels": labels}) for inputs, labels in pairs]
    state, seconds = algorithm.init({"kernel": jnp.zeros(pairs[0][0].shape[1]), "bias": jnp.zeros(())}), []
    for round_num in range(rounds):
        started = time.perf_counter()
        keys = jax.random.split(jax.random.PRNGKey(round_num), len(hospitals))
        clients = [(str(number).encode(), *each) for number, each in enumerate(zip(hospitals, keys, strict=True))]
        state, _ = algorithm.apply(state, clients)
        jax.block_until_ready(state.params)
        seconds.append(time.perf_counter() - started)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
