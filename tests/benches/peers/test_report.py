"""What may be concluded from measurements. `python3 -m unittest discover tests/benches/peers` runs these."""

import unittest

import report
from results import ERROR_MOST, Engine, Measurement

HEAD = {"cpu": "CPU", "cpus": 2, "extensions": [], "system": "Linux", "kiln": "1", "started": "today", "load_average": 0.0,
        "batch": 1, "rounds": 3, "runs": 5, "peaks": {1: {"cpus": [0], "skipped": "there is no C compiler"}}}


def right(*rounds):
    return Engine(rounds=list(rounds), error=1e-6, version="1", load_ms=1.0, peak_bytes=1 << 20)


def wrong(*rounds, error=2 * ERROR_MOST):
    return Engine(rounds=list(rounds), error=error, version="1", load_ms=1.0, peak_bytes=1 << 20)


def measured(kiln, name="model", **peers):
    return Measurement(name, 1, 1, 10**6, {"kiln": kiln, **peers})


class Conclusions(unittest.TestCase):
    def test_the_ratio_is_of_the_medians_of_kiln_and_the_fastest_peer(self):
        m = measured(right(9, 2, 3), onnxruntime=right(4, 4, 90), openvino=right(5, 5, 5))
        self.assertEqual((m.best_peer(), m.ratio()), ("onnxruntime", 0.75))

    def test_a_peer_whose_results_are_wrong_is_never_the_best(self):
        m = measured(right(3), onnxruntime=right(6), mnn=wrong(1))
        self.assertEqual((m.best_peer(), m.ratio(), m.ratio("mnn")), ("onnxruntime", 0.5, None))

    def test_there_is_no_ratio_where_kiln_is_wrong_or_not_a_number_or_failed(self):
        for kiln in (wrong(1), wrong(1, error=float("nan")), wrong(1, error=float("inf")), Engine(failed="no LSTM")):
            self.assertIsNone(measured(kiln, ncnn=right(2)).ratio())

    def test_there_is_no_ratio_without_a_peer(self):
        self.assertIsNone(measured(right(1), ncnn=Engine(failed="no such layer")).ratio())

    def test_the_mean_is_geometric_and_over_the_models_that_have_a_ratio(self):
        found = [measured(right(1), ncnn=right(2)), measured(right(8), ncnn=right(1)), measured(wrong(1), ncnn=right(1000))]
        means = report.geometric_means(found, 1)
        self.assertAlmostEqual(means["over_best"], 2.0)
        self.assertEqual(means["models"], 2)
        self.assertAlmostEqual(means["over"]["ncnn"], 2.0)


class Report(unittest.TestCase):
    def test_it_names_the_reason_of_everything_that_does_not_count(self):
        text = report.markdown(HEAD, [measured(Engine(failed="no LSTM"), "lstm", mnn=wrong(5), ncnn=right(7))])
        self.assertIn("- `lstm`, 1 thread, Kiln: no LSTM\n", text)
        self.assertIn("- `lstm`, 1 thread, MNN: its results are wrong, error 2.0e-03\n", text)
        self.assertIn("| lstm | – | (5.00) | 7.00 | ncnn | – |", text)
        self.assertIn("over 0 of 1 model.", text)

    def test_it_gives_time_best_peer_ratio_error_and_rate(self):
        text = report.markdown(HEAD, [measured(right(0.5), ncnn=right(1))])
        self.assertIn("| model | 0.500 | 1.00 | ncnn | **0.500** | – | 1.0e-06 | 4.0 |", text)
        self.assertNotIn("Left out", text)


if __name__ == "__main__":
    unittest.main()
