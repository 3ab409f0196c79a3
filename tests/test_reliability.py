"""Every line of docs/reliability.md has a test, and here is which."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
# The beginning of a line's first cell -> file under tests/, and its test without `test_`
PROMISES = {
    "the process is killed": "test_survival::after_a_kill_the_clip_plays_to_its_last_second",
    "the power fails": "test_survival::a_lost_power_leaves_what_the_disk_had",
    "the disk is full": "game/test_loop::play_goes_on_when_the_disk_is_full",
    "the disk hangs": "test_survival::a_disk_that_hangs_stops_the_recording_and_not_the_play",
    "the encoder fails": "test_survival::an_encoder_that_fails_in_the_middle",
    "the disk is full for a moment (F5)": (
        "game/test_save_worker::a_disk_that_refuses_costs_neither_play_nor_the_moment"
    ),
    "two processes record or save": "test_survival::processes_that_record_under_one_name_at_once",
    "the world raises once": "game/test_faults::a_fault_costs_a_frame_and_play_goes_on",
    "it raises again at once": "game/test_faults::a_fault_that_comes_again_lets_the_world_rest",
    "the device stays away": "game/test_faults::a_device_that_stays_away_ends_play",
    "latents, keys or values": "game/test_faults::numbers_that_are_none_cost_a_frame",
    "weights on disk hold": "worlds/test_broken_weights::a_native_world",
    "the display goes away": "game/test_faults::a_session_whose_display_goes_away_is_kept",
    "two games change settings": "game/test_preferences::two_games_that_are_played_at_once",
    "a gamepad is all there is": "game/test_gamepad_session::a_session_from_the_start_screen",
    "the machine sleeps": "game/test_faults::sleep_in_the_middle_of_a_frame_is_no_time_of_play",
    "the window is held": "game/test_faults::a_window_that_is_held_for_a_while",
    "the player goes back": "game/test_faults::saves_loads_and_rewinding_at_random",
    "a text with a byte order mark": "system/test_encoding::every_text_is_read_in_every_encoding",
    "`0,2` in a TOML file": "system/test_encoding::a_decimal_comma_is_told",
    "a picture with EXIF": "storage/test_images::a_picture_is_turned_as_the_camera_was_held",
    "a picture or video of another shape": "storage/test_images::a_picture_of_another_shape",
    "a video: MP4": "storage/test_footage::a_video_is_a_start_of_every_world",
    "a data folder with": "system/test_paths::what_desktops_leave_is_no_data",
    "a Git LFS pointer": "system/test_not_downloaded::every_reader_says_what_it_found_instead",
    "weights whose names begin": "wan/test_weight_files::prefixes_of_other_programs_come_off",
    "`~` in a path": "system/test_paths::the_home_folder_is_understood",
    "a recording or moment whose world": (
        "worlds/test_find::of_two_worlds_of_a_name_the_one_with_the_weights_is_played"
    ),
    "a keyboard that is not American": "game/test_keyboard_layout::a_real_layout_names_the_keys",
    "a display is named": "game/test_screen::a_display_that_does_not_answer_is_no_display",
    "standard output is missing": "system/test_console::a_list_that_nobody_got_is_no_success",
    "Ctrl-C, `SIGTERM`": "system/test_signals::a_session_without_a_window_loses_no_frame",
    "a flag means nothing": "commands/test_flags::a_flag_without_a_meaning_is_told",
    "a signal after OpenVINO": "system/test_signals::signals_are_heard_after_openvino_worlds",
    "`kill -9` in the first second": "system/test_signals::a_kill_in_the_first_second",
    "the recorder of the real game": (
        "data_sources/test_doom_process::a_recording_that_is_ended_in_any_way_leaves_no_engine"
    ),
    "Gymnasium's asynchronous": "gym_env/test_fork::after_a_fork_it_says_what_to_do",
    "the disk fills up while a run": "training/test_train_loop::a_full_disk_stops_the_run",
    "a state is cut off": "training/test_kept_states::a_state_that_no_training_leaves_is_told",
    "the newest parts of a run": "training/test_sharded::a_broken_one_costs_the_steps_since",
    "the parts of a run": "training/test_sharded::a_list_of_parts_runs_no_code",
    "a recording, a moment or a clip": "worlds/test_find::no_folder_of_this_machine_is_in_what",
    "the `.moment` of a recording": "game/test_level_map::a_session_from_a_place_is_recorded",
    "standard error is a file": "system/test_progress::a_log_gets_a_plain_line_every_ten_seconds",
    "a world or figures would": (
        "recipe/test_maker::a_world_that_would_replace_other_files_is_told_before_anything_begins"
    ),
    "an autoencoder shows frames": "training/test_verdict::an_autoencoder_worse_than_a_copy",
    "a run ends": "training/test_verdict::every_run_ends_with_a_verdict_three_numbers",
    "weights that are no numbers": "training/test_verdict::weights_that_are_no_numbers_feed",
    "latents that are none": "worlds/test_broken_weights::latents_that_are_no_numbers_are_no",
    "an environment's picture": "data_sources/test_rendering::what_can_be_converted_plainly_is",
    "`--size 50x50`": "data_sources/test_rendering::a_size_that_nothing_can_be_trained_on",
    "`data check` cannot tell": "datacheck/test_data_report::what_could_not_be_told_is_not",
    "two draws of an evaluation": "evaluation/test_evaluation_streams::a_clips_place_and_its",
    "`evaluate` is interrupted": "evaluation/test_report::every_part_is_said_and_what_it_found",
    "a name of 300 letters": "commands/test_jobs::what_the_machine_refuses_is_a_sentence",
}


def lines_of_the_page() -> list[str]:
    """First cells of all its tables but the one of what `selftest` tries, which is no promise."""
    promised = PAGE.read_text(encoding="utf-8").partition("\n## ")[2]
    return re.findall(r"^\| ([^|\s].*?) \|", promised, re.M)


def test_every_promise_has_a_test_and_every_test_is_there() -> None:
    promised = lines_of_the_page()
    assert len(promised) > 50
    begun = {line: [p for p in PROMISES if line.startswith(p)] for line in promised}
    assert [line for line, found in begun.items() if not found] == [], "without a test"
    used = {max(found, key=len) for found in begun.values()}
    assert PROMISES.keys() - used == set(), "of no line"
    for where in PROMISES.values():
        file, _, name = where.partition("::")
        text = (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")
        assert f"def test_{name}" in text, where
