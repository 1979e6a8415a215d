"""Adapters of hub data sets, on rows written in the layout of each."""

import json

import pytest
from datasets import Dataset

from edco_rl.data.hub import HUB_DATASETS
from edco_rl.data.load import load_prompts
from edco_rl.errors import ConfigurationError


def save(folder, **splits):
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        Dataset.from_list(rows).to_parquet(folder / f"{split}.parquet")
    return str(folder)


def test_teleqna_of_the_hub(tmp_path):
    row = {
        "question": "What does a router do?",
        "choices": ["Routes", "Cooks"],
        "answer": 0,
        "explanation": "By its name.",
        "subject": "Lexicon",
    }
    folder = save(tmp_path / "data", test=[row, row | {"question": "And a cook?", "answer": 1}])
    train, held_out = load_prompts(
        folder, train_split="test", dataset_format="teleqna", held_out_prompts=1, conversational=False
    )
    assert sorted([*train["answer"], *held_out["answer"]]) == ["A", "B"] and train["subject"] == ["Lexicon"]
    router = next(row for row in (*train, *held_out) if row["answer"] == "A")
    assert router["prompt"] == "Question: What does a router do?\nA. Routes\nB. Cooks\nAnswer:"
    with pytest.raises(ConfigurationError, match=r"no split 'train'; it has test\. With dataset_train_split"):
        load_prompts(folder)


def test_teleqna_as_its_authors_publish_it(tmp_path):
    path = tmp_path / "TeleQnA.json"
    questions = {
        f"question {i}": {
            "question": f"Which one is {i}?",
            "option 1": "zero",
            "option 2": "one",
            "answer": f"option {i + 1}: {word}",
            "explanation": "Counting.",
            "category": "Lexicon",
        }
        for i, word in enumerate(["zero", "one"])
    }
    path.write_text(json.dumps(questions))
    rows, _ = load_prompts(str(path), dataset_format="teleqna")
    assert rows["answer"] == ["A", "B"] and rows["id"] == ["question 0", "question 1"]
    assert rows["options"] == [["zero", "one"]] * 2 and rows["subject"] == ["Lexicon"] * 2
    questions["question 1"]["answer"] = "option 3: two"
    path.write_text(json.dumps(questions))
    with pytest.raises(ConfigurationError, match=r"row 1 .*field 'answer': expected 'option N: ...'"):
        load_prompts(str(path), dataset_format="teleqna")


def test_medqa(tmp_path):
    row = {
        "question": "Which is a vitamin?",
        "answer": "Biotin",
        "options": {"A": "Iron", "B": "Biotin", "C": "Zinc", "D": "Salt"},
        "meta_info": "step1",
        "answer_idx": "B",
        "metamap_phrases": ["vitamin"],
    }
    train, held_out = load_prompts(
        save(tmp_path / "data", train=[row], test=[row | {"answer_idx": "C"}]),
        dataset_format="medqa",
        held_out_prompts=1,
    )
    assert train[0]["answer"] == "B" and held_out[0]["answer"] == "C" and train[0]["subject"] == "step1"
    assert train[0]["options"] == ["Iron", "Biotin", "Zinc", "Salt"]
    with pytest.raises(ConfigurationError, match=r"train.parquet, row 0 .*field 'answer_idx': expected one of A, B"):
        load_prompts(save(tmp_path / "bad", train=[row | {"answer_idx": "F"}]), dataset_format="medqa")


def test_pubmedqa(tmp_path):
    row = {
        "pubid": 7,
        "question": "Does it help?",
        "context": {"contexts": ["It was tried.", "It helped."], "labels": ["METHODS", "RESULTS"], "meshes": ["Help"]},
        "long_answer": "It does.",
        "final_decision": "yes",
    }
    [loaded] = load_prompts(save(tmp_path / "data", train=[row]), dataset_format="pubmedqa", conversational=False)[0]
    assert loaded["prompt"] == (
        "Context: It was tried.\nIt helped.\n\nQuestion: Does it help?\nA. yes\nB. no\nC. maybe\nAnswer:"
    )
    assert (loaded["id"], loaded["answer"], loaded["explanation"]) == ("7", "A", "It does.")
    for change, problem in (
        ({"context": {"texts": ["x"]}}, "field 'context': expected an object with a list 'contexts'"),
        ({"final_decision": "perhaps"}, "field 'final_decision': expected one of A, B, C"),
    ):
        with pytest.raises(ConfigurationError, match=problem):
            load_prompts(save(tmp_path / problem[7:12], train=[row | change]), dataset_format="pubmedqa")


def legalbench(folder, config_name=None, **settings):
    return load_prompts(folder, config_name=config_name, dataset_format="legalbench", held_out_prompts=1, **settings)


def test_legalbench_offers_the_answers_that_occur_as_options(tmp_path):
    """Both splits together: the few training rows need not hold every answer."""
    rows = [{"answer": answer, "index": str(i), "text": f"Clause {i}"} for i, answer in enumerate(["No", "Yes"] * 3)]
    train, held_out = legalbench(save(tmp_path / "data", train=rows[:1], test=rows[1:]))
    assert train[0]["options"] == held_out[0]["options"] == ["No", "Yes"]
    assert (train[0]["answer"], held_out[0]["answer"]) == ("A", "B")
    assert "Clause 0" in train[0]["prompt"][0]["content"]


def test_legalbench_takes_the_columns_of_its_tasks(tmp_path):
    rows = [
        {"answer": ["Yes", "No"][i % 2], "index": str(i), "question": f"May I {i}?", "contract": f"Terms {i}"}
        for i in range(6)
    ]
    train, _ = legalbench(save(tmp_path / "contracts", train=rows[:5], test=rows[5:]), conversational=False)
    assert train[1]["prompt"] == "Context: Terms 1\n\nQuestion: May I 1?\nA. No\nB. Yes\nAnswer:"
    secret = [{"answer": str(i % 2), "aic_is_met": "leaks", "text": f"t{i}", "description": "d"} for i in range(6)]
    train, _ = legalbench(save(tmp_path / "diversity", train=secret[:5], test=secret[5:]), conversational=False)
    assert "leaks" not in train[0]["prompt"] and "description: d\n\ntext: t0" in train[0]["prompt"]
    scalr = [
        {"index": str(i), "question": f"Which {i}?", "choice_0": "a", "choice_1": "b", "choice_2": "c", "answer": "2"}
        for i in range(6)
    ]
    train, _ = legalbench(save(tmp_path / "scalr", train=scalr[:5], test=scalr[5:]))
    assert train[0]["options"] == ["a", "b", "c"] and train[0]["answer"] == "C"
    rules = [{"answer": f"Rule {i}", "text": f"State rule {i}."} for i in range(40)]
    train, _ = legalbench(save(tmp_path / "rule_qa", train=rules[:39], test=rules[39:]))
    assert train[3]["answer"] == "Rule 3" and "options" not in train.column_names


def test_several_configurations_are_read_one_after_the_other(tmp_path):
    folder = tmp_path / "data"
    lines = ["configs:"]
    for name in ("contract_qa", "hearsay"):
        rows = [{"answer": ["Yes", "No"][i % 2], "text": f"{name} {i}"} for i in range(6)]
        save(folder / name, train=rows[:4], test=rows[4:])
        lines += [f"- config_name: {name}", "  data_files:"]
        lines += [f"  - {{split: {split}, path: {name}/{split}.parquet}}" for split in ("train", "test")]
    (folder / "README.md").write_text("\n".join(["---", *lines, "---", ""]))
    train, _ = legalbench(str(folder), "contract_qa, hearsay")
    assert train["subject"] == ["contract_qa"] * 4 + ["hearsay"] * 4
    assert "the legal task 'contract qa'" in train[0]["prompt"][0]["content"]


def test_the_recipes_hub_ids_have_adapters():
    ids = ("netop/TeleQnA", "GBaker/MedQA-USMLE-4-options", "qiaojin/PubMedQA", "nguha/legalbench")
    assert {name.lower() for name in ids} == set(HUB_DATASETS)
