r"""Steady flow around a cylinder, DFG benchmark 2D-1, by finite elements.

    u . grad u - nu lap u + grad p = 0,   div u = 0      in the channel around the cylinder
    u = 4 U y (H - y) / H^2, v = 0                       inflow, x = 0
    u = v = 0                                            walls and cylinder
    nu u_x - p = 0, nu v_x = 0                           outflow, x = L

in SI units: density 1, nu = 1e-3, H = 0.41, L = 2.2, U = 0.3; the cylinder has radius 0.05 and
centre (0.2, 0.2); Reynolds number 20. From Schaefer and Turek, "Benchmark computations of laminar
flow around a cylinder" (1996); the values to compare with are those of the FeatFlow benchmark page.

Method: Taylor-Hood triangles P4/P3 on a structured O-grid, quadratic geometry, Newton from zero.

    python -m pinnfluence.reference.cylinder_fem [--cells 24] [--points 12] [--output PATH]

The reference in this folder has the values of 24 cells a quarter circle at the nodes of 12. By the
change from 16 cells its error is at most 1e-5 of a field (p; of u 1.4e-6, of v 3e-6).
"""

import argparse
import math
import time
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import bmat, csr_matrix
from scipy.sparse.linalg import spsolve
from scipy.spatial import cKDTree
from skfem import Basis, BilinearForm, MeshTri, MeshTri2
from skfem.element import ElementTriP3, ElementTriP4
from skfem.helpers import dot, grad

from pinnfluence.problem.forces import Forces
from pinnfluence.problem.reference import Reference, save_reference
from pinnfluence.reference.dfg_2d1 import (
    CENTER,
    DFG,
    HEIGHT,
    LENGTH,
    NU,
    RADIUS,
    RHO,
    U_MAX,
    U_MEAN,
)
from pinnfluence.reference.lattice import lattice_rule, merge_lattice

CENTRE = np.array(CENTER)
QUADRATURE_ORDER = 11  # exact for the convective term, degree 4 + 3 + 4, on straight triangles


def inflow(y: np.ndarray) -> np.ndarray:
    """u = 4 U y (H - y) / H^2 at x = 0, in m/s."""
    return 4 * U_MAX * y * (HEIGHT - y) / HEIGHT**2


def radial_distance(x: np.ndarray) -> np.ndarray:
    """Distance of points [2, n] from the cylinder's centre, in m."""
    return np.hypot(*(x - CENTRE[:, None]))


def onto_circle(x: np.ndarray) -> np.ndarray:
    """Points [2, n] moved along their radius onto the cylinder."""
    return CENTRE[:, None] + (x - CENTRE[:, None]) * (RADIUS / radial_distance(x))


def graded(n: int, stretch: float) -> np.ndarray:
    """Numbers s_0 = 0 < ... < s_n = 1 whose last gap is about exp(stretch) times the first."""
    return np.expm1(stretch * np.linspace(0, 1, n + 1)) / np.expm1(stretch)


def structured_grid(cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [2, n] and quadrilaterals [4, m]: an O-grid in [0, H]^2, then the wake's columns."""
    along = np.arange(cells)[:, None] / cells
    box = HEIGHT * np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])
    outer = np.concatenate([a + along * (b - a) for a, b in pairwise(box)])
    angle = np.pi / 2 * np.arange(4 * cells) / cells - 3 * np.pi / 4
    circle = CENTRE + RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ring = circle + graded(cells, 1.6)[:, None, None] * (outer - circle)
    wake_x = HEIGHT + (LENGTH - HEIGHT) * graded(math.ceil(19 * cells / 6), 1.2)[1:]
    wake_y = HEIGHT * np.arange(cells + 1) / cells
    wake = np.stack(np.meshgrid(wake_x, wake_y, indexing="ij"), axis=-1)
    vertices = np.concatenate([ring.reshape(-1, 2), wake.reshape(-1, 2)])
    ring_id, wake_id = np.split(np.arange(len(vertices)), [4 * cells * (cells + 1)])
    ring_id, wake_id = ring_id.reshape(cells + 1, -1), wake_id.reshape(-1, cells + 1)
    wake_id = np.vstack([ring_id[-1, cells : 2 * cells + 1], wake_id])
    ring_id = np.hstack([ring_id, ring_id[:, :1]])
    corners = [(i[:-1, :-1], i[1:, :-1], i[1:, 1:], i[:-1, 1:]) for i in (ring_id, wake_id)]
    return vertices.T.copy(), np.hstack([np.stack(c).reshape(4, -1) for c in corners])


def make_mesh(cells: int) -> MeshTri2:
    """The channel in triangles, `cells` along a quarter circle and as many across the channel."""
    vertices, (a, b, c, d) = structured_grid(cells)
    triangles = np.hstack([np.stack([a, b, c]), np.stack([a, c, d])])
    # P3 and P4 have several nodes an edge: ascending vertices give both sides the same order.
    mesh = MeshTri2.from_mesh(MeshTri(vertices, np.sort(triangles, axis=0))).with_boundaries(
        {
            "inflow": lambda x: np.isclose(x[0], 0),
            "walls": lambda x: np.isclose(x[1], 0) | np.isclose(x[1], HEIGHT),
            "cylinder": lambda x: radial_distance(x) < 1.01 * RADIUS,
        }
    )
    nodes = mesh.doflocs.copy()
    middle = mesh.dofs.facet_dofs[0, mesh.boundaries["cylinder"]]
    nodes[:, middle] = onto_circle(nodes[:, middle])
    return replace(mesh, doflocs=nodes)


def locate(mesh: MeshTri2, x: np.ndarray) -> np.ndarray:
    """The triangle of each point [2, n] of the fluid, found among those of nearest centroid.

    The straight triangles serve: only edges on the cylinder curve, and away from the fluid.
    """
    corners = mesh.p[:, mesh.t]  # [2, 3, n_triangles]
    near = cKDTree(corners.mean(axis=1).T).query(x.T, min(20, mesh.nelements))[1]
    edges = (corners[:, 1:] - corners[:, :1]).transpose(2, 0, 1)  # [n_triangles, 2, 2]
    offset = x[:, :, None] - corners[:, 0, near]
    first, second = np.einsum("nkij,jnk->ink", np.linalg.inv(edges)[near], offset)
    depth = np.minimum(np.minimum(first, second), 1 - first - second)
    return near[np.arange(len(near)), depth.argmax(axis=1)]


@BilinearForm
def transport(u: Any, v: Any, w: Any) -> Any:
    """(nu grad u, grad v) + (w . grad u, v) for one component u, carried by the velocity w."""
    return NU * dot(grad(u), grad(v)) + (w.u * u.grad[0] + w.v * u.grad[1]) * v


@BilinearForm
def reaction(u: Any, v: Any, w: Any) -> Any:
    """(c u, v), with c a derivative of the velocity: the rest of Newton's matrix."""
    return w.c * u * v


@BilinearForm
def gradient(p: Any, v: Any, w: Any) -> Any:
    """-(p, dv/dx_i); transposed it is the part of -(div u, q) from the component i of u."""
    return -p * v.grad[w.i]


def inflow_and_free(basis: Basis, n_unknowns: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients that are zero but for the inflow, and the indices of those that are free."""
    no_slip = basis.get_dofs(["walls", "cylinder"]).all()
    inlet = basis.get_dofs("inflow").all()
    x = np.zeros(n_unknowns)
    x[inlet] = inflow(basis.doflocs[1, inlet])
    x[no_slip] = 0
    fixed = np.union1d(no_slip, inlet)
    return x, np.setdiff1d(np.arange(n_unknowns), [fixed, basis.N + fixed])


@dataclass(frozen=True, eq=False)
class FlowSolution:
    """The discrete flow: P4 and P3 basis, the coefficients of u, v (m/s) and p (Pa), residuals.

    >>> solve(cells=4)(np.array([[0.0, 0.205]]))["u"]
    array([0.3])
    """

    velocity: Basis
    pressure: Basis
    coefficients: list[np.ndarray]
    residuals: list[np.ndarray]
    newton_steps: int

    def __call__(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """u, v, p and u_x, u_y, ..., p_y at points [n, 2], each [n] float64.

        Raises ValueError when a point is more than 1e-6 outside the fluid.
        """
        inside = into_fluid(np.asarray(points, dtype=np.float64).T)
        cells = locate(self.velocity.mesh, inside)
        local = self.velocity.mapping.invF(inside[:, :, None], tind=cells)
        values = {}
        bases = self.velocity, self.velocity, self.pressure
        for name, basis, c in zip("uvp", bases, self.coefficients, strict=True):
            jet = np.zeros((3, len(cells)))  # value, x derivative, y derivative
            for i, dofs in enumerate(basis.element_dofs[:, cells]):
                phi = basis.elem.gbasis(basis.mapping, local, i, tind=cells)[0]
                jet += c[dofs] * np.stack([phi, *phi.grad])[..., 0]
            values[name], values[f"{name}_x"], values[f"{name}_y"] = jet
        return values

    @property
    def forces(self) -> Forces:
        """Drag and lift from the residual of the momentum equations on the cylinder, and dp.

        Tested with w = 1 on the cylinder and 0 on the other nodes, it gives the force without
        differentiating: F = int_cylinder (nu du/dn - p n) ds = -residual . w, n into the fluid.
        """
        dofs = self.velocity.get_dofs("cylinder").all()
        scale = 2 / (RHO * U_MEAN**2 * 2 * RADIUS)
        drag, lift = (-scale * float(r[dofs].sum()) for r in self.residuals[:2])
        front, back = self(np.array([[0.15, 0.2], [0.25, 0.2]]))["p"]
        return Forces(drag, lift, dp=float(front - back))


def into_fluid(x: np.ndarray, tol: float = 1e-6) -> np.ndarray:
    """Points [2, n], those outside by at most tol moved onto the boundary; others are refused."""
    inside = np.clip(x, 0, [[LENGTH], [HEIGHT]])
    depth = RADIUS - radial_distance(inside)
    rim = (depth > 0) & (depth < tol)
    inside[:, rim] = onto_circle(inside[:, rim])
    outside = (depth >= tol) | ~(np.abs(inside - x).max(axis=0) <= tol)
    if outside.any():
        n, first = outside.sum(), x.T[outside][0]
        raise ValueError(f"expected points in the fluid, found {n} outside, the first at {first}")
    return inside


def solve(cells: int = 12, tol: float = 1e-10) -> FlowSolution:
    """Solve by Newton's method on `cells` cells a quarter circle; 43,258 unknowns for 12.

    The residual of x = [u, v, p] is A(x) x, A = [[C, 0, Bx], [0, C, By], [Bx^T, By^T, 0]], with C
    the transport by (u, v); its Jacobian is A and the reaction terms. The last step has
    max |dx| < tol; RuntimeError when there is none among 20.
    """
    if cells < 2:
        raise ValueError(f"expected at least 2 cells, found {cells}: the default is 12")
    velocity = Basis(make_mesh(cells), ElementTriP4(), intorder=QUADRATURE_ORDER)
    pressure = velocity.with_element(ElementTriP3())
    bx, by = (gradient.assemble(pressure, velocity, i=i) for i in (0, 1))
    x, free = inflow_and_free(velocity, 2 * velocity.N + pressure.N)
    size, zero = np.inf, csr_matrix((pressure.N, pressure.N))
    for n_steps in range(20):
        coefficients = np.split(x, [velocity.N, 2 * velocity.N])
        u, v = (velocity.interpolate(c) for c in coefficients[:2])
        c = transport.assemble(velocity, u=u, v=v)
        a = bmat([[c, None, bx], [None, c, by], [bx.T, by.T, None]], format="csr")
        residual = a @ x
        if size < tol:
            residuals = np.split(residual, [velocity.N, 2 * velocity.N])
            return FlowSolution(velocity, pressure, coefficients, residuals, n_steps)
        uu, uv, vu, vv = (reaction.assemble(velocity, c=d) for d in (*u.grad, *v.grad))
        jacobian = a + bmat([[uu, uv, None], [vu, vv, None], [None, None, zero]], format="csr")
        step = spsolve(jacobian[free][:, free].tocsc(), -residual[free])
        x[free] += step
        size = np.abs(step).max()
    raise RuntimeError(f"expected a Newton step below {tol:.0e} within 20, found {size:.1e}")


def sample(flow: FlowSolution, mesh: MeshTri2 | None = None, n: int = 6) -> Reference:
    """u, v, p at the Pn nodes of a mesh: 37,668 for P6, 12 cells; finer at the cylinder.

    The mesh is that of the flow, or a coarser one.

    Weights: `lattice_rule` times the Jacobian, exact for degree 5 where triangles are straight.
    No-slip points have u = v = 0, inflow points the inflow, at their float32 coordinates.
    """
    mesh, (nodes, weights) = mesh or flow.velocity.mesh, lattice_rule(n, degree=5)
    basis = Basis(mesh, ElementTriP3(), quadrature=(nodes[1:] / n, weights))
    kept, merged = merge_lattice(mesh.t, nodes)
    x = np.asarray(basis.global_coordinates()).reshape(2, -1)[:, kept]
    x = into_fluid(x, tol=RADIUS)  # onto the circle: quadratic edges lie within it
    x[np.abs(x) < 1e-9] = 0
    points = np.ascontiguousarray(x.T, dtype=np.float32)
    found = flow(x.T)
    values = {name: found[name] for name in "uvp"}
    inlet, walls = points[:, 0] == 0, np.isin(points[:, 1], np.array([0, HEIGHT], np.float32))
    values["u"][inlet], values["v"][inlet] = inflow(points[inlet, 1].astype(np.float64)), 0
    no_slip = walls | (radial_distance(x) < RADIUS * (1 + 1e-9))
    values["u"][no_slip] = values["v"][no_slip] = 0
    area = np.bincount(merged, basis.dx.reshape(-1)).astype(np.float32)
    return Reference(points, {name: v.astype(np.float32) for name, v in values.items()}, area)


def main() -> None:
    parser = argparse.ArgumentParser(description="Steady flow around a cylinder, DFG 2D-1.")
    parser.add_argument("--cells", type=int, default=24, help="cells a quarter circle (24)")
    parser.add_argument(
        "--points", type=int, default=12, help="cells of the mesh of its points (12)"
    )
    default = Path(__file__).with_name("cylinder_flow.npz")
    parser.add_argument("--output", type=Path, default=default, help="the .npz to write")
    args = parser.parse_args()
    if min(args.cells, args.points) < 2:
        parser.error(f"expected at least 2 cells, found {min(args.cells, args.points)}")
    if not args.output.parent.is_dir():
        parser.error(f"expected a folder for --output, found none at {args.output.parent}")
    start = time.perf_counter()
    flow = solve(args.cells)
    seconds = time.perf_counter() - start
    reference = sample(flow, make_mesh(args.points))
    save_reference(reference, args.output)
    unknowns = 2 * flow.velocity.N + flow.pressure.N
    print(f"{unknowns:,} unknowns, {flow.newton_steps} Newton steps, {seconds:.1f} s")
    for name, found in asdict(flow.forces).items():
        expected = getattr(DFG, name)
        print(f"{name:4s} {found:.10f}  DFG {expected:.10f}  relative {found / expected - 1:+.1e}")
    print(f"{len(reference.points):,} points in {args.output}")


if __name__ == "__main__":
    main()
