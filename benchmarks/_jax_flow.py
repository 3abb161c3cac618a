"""The flow's loss and Adam step in JAX, written as a JAX user would: jvp of jvp, jit."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pinnfluence.problems import cylinder_flow as flow


def network(theta: list, point: jax.Array) -> jax.Array:
    a = point / jnp.array([flow.LENGTH, flow.HEIGHT])
    for n in range(0, len(theta) - 2, 2):
        a = jax.nn.gelu(theta[n] @ a + theta[n + 1], approximate=False)
    return theta[-2] @ a + theta[-1]


def derivatives(theta: list, point: jax.Array) -> tuple:
    def along(direction: jax.Array) -> tuple:
        def first(p: jax.Array) -> jax.Array:
            return jax.jvp(lambda q: network(theta, q), (p,), (direction,))[1]

        return jax.jvp(first, (point,), (direction,))

    (gx, gxx), (gy, gyy) = map(along, jnp.eye(2))
    return network(theta, point), gx, gy, gxx, gyy


def loss_at(train_x: np.ndarray) -> Callable[[list], jax.Array]:
    """The flow's nine loss terms, summed, with the corrected conditions."""
    x = jnp.asarray(train_x)
    inflow, outflow, walls = (
        jnp.asarray(np.flatnonzero(on(train_x)))
        for on in (flow.at_inflow, flow.at_outflow, flow.at_walls)
    )

    def loss(theta: list) -> jax.Array:
        value, gx, gy, gxx, gyy = jax.vmap(derivatives, (None, 0))(theta, x)
        (u, v, p), (ux, vx, px), (uy, vy, py) = value.T, gx.T, gy.T
        profile = 4 * flow.U_MAX * x[:, 1] * (flow.HEIGHT - x[:, 1]) / flow.HEIGHT**2
        lap = gxx + gyy
        residuals = (
            ux + vy,
            u * ux + v * uy + px / flow.RHO - flow.NU * lap[:, 0],
            u * vx + v * vy + py / flow.RHO - flow.NU * lap[:, 1],
            (u - profile)[inflow],
            v[inflow],
            (flow.NU * ux - p)[outflow],
            (flow.NU * vx)[outflow],
            u[walls],
            v[walls],
        )
        return sum(jnp.mean(r**2) for r in residuals)

    return loss


def adam(theta: list, gradients: list, m: list, s: list, t: jax.Array) -> tuple:
    """A step at 1e-3, number t."""
    m = [0.9 * a + 0.1 * g for a, g in zip(m, gradients, strict=True)]
    s = [0.999 * a + 0.001 * g * g for a, g in zip(s, gradients, strict=True)]
    rate = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    theta = [w - rate * a / (jnp.sqrt(b) + 1e-8) for w, a, b in zip(theta, m, s, strict=True)]
    return theta, m, s


def make_step(train_x: np.ndarray, weights: Sequence[np.ndarray]) -> Callable[[], None]:
    """An Adam step at 1e-3 on the flow's loss."""
    gradient = jax.grad(loss_at(train_x))

    @jax.jit
    def step(theta: list, m: list, s: list, t: jax.Array) -> tuple:
        return adam(theta, gradient(theta), m, s, t)

    theta = [jnp.asarray(w) for w in weights]
    zeros = [jnp.zeros_like(w) for w in theta]
    state = (theta, zeros, zeros)
    n_steps = 0

    def advance() -> None:
        nonlocal state, n_steps
        n_steps += 1
        state = step(*state, jnp.float32(n_steps))
        jax.block_until_ready(state[0])

    return advance
