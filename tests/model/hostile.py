"""What somebody who wishes us ill would write into a file of JSON."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

hostile_numbers = st.sampled_from(
    [0, -1, 2**31, 2**60, 2**63, 10**18, 10**400, 1e308, 1e-320, float("nan"), float("inf"), -0.0]
)
hostile_values = st.recursive(
    hostile_numbers
    | st.none()
    | st.booleans()
    | st.text(max_size=20)
    | st.sampled_from(["..", "/etc/passwd", "../../x", "\0", "a" * 5000, "1_Pooling/../.."]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
EXAMPLES = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
