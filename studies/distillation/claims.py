"""The paper's claims against what was measured here, each with a verdict that follows from numbers.

A claim about quality holds if the whole 95 % interval of the difference, clip by clip, is on its
side; fails if the whole interval is on the other; else this many clips cannot tell.
"""

from collections.abc import Sequence

from studies.distillation.compare import Results
from studies.distillation.figures import Estimate, difference
from studies.distillation.play_speed import Speed, speed_key_of
from studies.distillation.tables import shown
from studies.distillation.training_costs import cost_of
from studies.markdown import markdown_table
from worldmodel.evaluation.quality import HORIZONS

LATENCY_CLAIM = 0.5  # first-frame latency, frame-wise over chunk-wise
COST_CLAIM = 4.0  # stage 2 by regression over stage 2 by consistency
NEAR = 1.1  # a ratio this close to a claim agrees with it


def claims_table(results: Results) -> list[str]:
    """Claim, what was found, verdict."""
    rows = [*_quality(results), _latency(results), *_costs(results)]
    return markdown_table(["Causal Forcing++ says", "here", "verdict"], rows)


def verdict(gain: Estimate) -> str:
    """Of "at least as good", given how much better."""
    if gain.low >= 0:
        return "holds: better"
    if gain.high < 0:
        return "does not hold here"
    return "no difference that these clips show"


def _quality(results: Results) -> list[Sequence[str]]:
    claims = results.comparison.claims
    assert claims is not None, "asked for only where there are claims"
    one, other = (results.rows.get(name) for name in (claims.frame_wise, claims.chunk_wise))
    claim = "frame-wise in few steps at least as good as chunk-wise"
    if not one or not other:
        return [(claim, "–", "not run")]
    rows: list[Sequence[str]] = []
    for h in HORIZONS:
        gain = difference(one.psnr[str(h)], other.psnr[str(h)])
        rows.append((f"{claim}: PSNR at frame {h}", f"{shown(gain)} dB", verdict(gain)))
    apart = other.frechet.value - one.frechet.value
    error = (one.frechet.error**2 + other.frechet.error**2) ** 0.5
    gain = Estimate(apart, error)
    rows.append((f"{claim}: Fréchet distance lower by", shown(gain, 1), verdict(gain)))
    return rows


def _latency(results: Results) -> Sequence[str]:
    """Compared on the reference engine: methods, not engines."""
    claims = results.comparison.claims
    assert claims is not None, "asked for only where there are claims"
    one, other = (_speeds(results, name) for name in (claims.frame_wise, claims.chunk_wise))
    claim = "first-frame latency −50 %"
    if not one or not other:
        return claim, "–", "not run"
    ratio, found = _against(one[1], other[1])
    fastest = _against(one[0], other[0])[1]
    found = f"{found} on the reference engine ({fastest} on the fastest engine of each)"
    holds = ratio <= LATENCY_CLAIM * NEAR
    return claim, found, "holds" if holds else "does not hold here"


def _against(one: Speed, other: Speed) -> tuple[float, str]:
    mine, its = one.first_frame_ms, other.first_frame_ms
    return mine / its, f"{mine:.1f} against {its:.1f} ms: {mine / its - 1:+.0%}"


def _costs(results: Results) -> list[Sequence[str]]:
    claims, comparison = results.comparison.claims, results.comparison
    assert claims is not None, "asked for only where there are claims"
    cheap, dear = (
        cost_of(comparison.rows[name].stage2, comparison.out)
        for name in (claims.consistency, claims.regression)
    )
    claim = "stage 2 about 4 times cheaper by consistency"
    if not cheap or not dear:
        return [(claim, "–", "not run")]
    rows: list[Sequence[str]] = []
    for what, low, high in (
        ("minutes", cheap.minutes, dear.minutes),
        ("PFLOP", cheap.petaflops, dear.petaflops),
    ):
        if not low:
            continue
        ratio = high / low
        holds = ratio >= COST_CLAIM / NEAR
        verdict = (
            "holds" if holds else "cheaper, but less so" if ratio > 1 else "does not hold here"
        )
        rows.append((f"{claim}: {what}", f"{low:.3g} against {high:.3g}: {ratio:.1f} x", verdict))
    return rows


def _speeds(results: Results, name: str) -> tuple[Speed, Speed] | None:
    """On the fastest engine and on the reference one."""
    figures = results.rows.get(name)
    if not figures or not results.speeds:
        return None
    key = speed_key_of(figures.weights, figures.sampler.sigmas)
    speeds = results.speeds
    if key not in speeds.rows or key not in speeds.reference:
        return None
    return speeds.rows[key], speeds.reference[key]
