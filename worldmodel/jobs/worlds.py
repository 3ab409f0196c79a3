"""List and describe the worlds that are here."""

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do it."""
    del options
    from worldmodel.worlds.find import list_worlds

    for folder, world in list_worlds():
        size = f"{world.autoencoder.frame_width}x{world.autoencoder.frame_height}"
        print(f"{world.name:16} {world.title}")
        print(
            f"{'':16} {size}, {world.frames_per_second:g} frames/s, "
            f"{world.sampler.steps} denoising steps, licence {world.licence}; {folder}"
        )
        for number, caption in enumerate(world.starts.values()):
            print(f"{'':16} start {number}: {caption}")
