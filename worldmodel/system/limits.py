"""How much a file may ask for: every reader of files from strangers looks here and nowhere else.

What a file claims is held against these numbers before memory is taken or work begins. They are
far above what the project's own files need, and low enough that a forged file ends in a sentence
after seconds and at most a few gigabytes. Bytes unless a line says otherwise.
"""

KB, MB, GB, TB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

# Text that is shown to a person
LONGEST_MESSAGE = 2000  # letters of one sentence
LONGEST_SHOWN = 200  # letters of a value from a file within it
LONGEST_TITLE = 1000  # letters of a title, a licence, a caption
LONGEST_PROMPT = 10_000  # letters of what a world is told
LONGEST_BUTTON = 200  # letters of a button's name

# TOML, JSON, and what people write
LARGEST_TEXT = 64 * MB  # where a reader says nothing else; what people write has kilobytes
LARGEST_TOML = MB
MOST_KEY_PARTS = 32  # of a dotted key; reading it takes the square of them, for every key
LARGEST_INTEGER = 2**63  # what TOML knows, and torch and numpy take
LARGEST_INDEX = 16 * MB  # a JSON that names files: shards of weights, latents of a data set
LARGEST_RECORD = MB  # what a run or a recipe says of itself, in JSON
LARGEST_LOG = 256 * MB  # of figures: a line every second for two weeks
MOST_SHARDS = 1000
MOST_CLIPS = 1 << 24  # of a data set of latents
MOST_BATCH = 1 << 16  # of anything that one step of a training reads
MOST_COUNTED = 1 << 24  # frames, clips, columns that a stage's file asks for

# Safetensors and what torch.save writes
LARGEST_HEADER = 32 * MB
MOST_TENSORS = 1 << 16
LARGEST_WEIGHTS = TB  # what is mapped, not read
LARGEST_PART = 64 * GB  # of a world's folder: 14 billion weights in fp32
LARGEST_NATIVE = 8 * GB  # weights of our own architecture, which are read whole
LARGEST_DECODER = GB  # beside a released file; what is larger is no decoder
LARGEST_IMAGE_ENCODER = 6 * GB  # beside a file of an image-to-video model
LARGEST_PROMPTS = 2 * GB  # embeddings of a thousand prompts
LARGEST_PICTURES = 2 * GB  # 250 encoded pictures
LARGEST_TOKENIZER = 128 * MB  # UMT5's has 17
LARGEST_PICKLE = 16 * MB  # 1 000 tensors take 0.2
MOST_OPCODES = 2_000_000  # of its pickles: 80 000 tensors
LONGEST_NAME = 1000  # letters of a tensor's name: how torch tells of longer ones is quadratic
DEEPEST_WRAPPER = 8  # tables around a network's tensors
MOST_SHARED = 2  # times the bytes that a file holds, of all its tensors together (tied weights)

# Episodes, recordings, moments
LARGEST_EPISODE = 16 * GB
LARGEST_MOMENT = 16 * GB  # one of Wan at full size has 6
LARGEST_READ = GB  # of an episode or moment; what is larger stays mapped until it is used
MOST_FRAMES = 1 << 22  # of an episode: 65 hours
MOST_HELD = 1 << 26  # frames x buttons of an episode
MOST_ACTIONS = 1 << 25  # of a moment's history: three weeks of play
MOST_SETS = 1 << 16  # of buttons held together
MOST_BUTTONS = 1024
LATEST_FRAME = 2**40  # number of a frame; far beyond any play, far below what a time can be
LARGEST_RECORDING = 256 * MB  # of a JSONL: a day of play
LONGEST_LINE = MB  # of it
LARGEST_FRAMES = 4 * GB  # of a recording, read at once
MOST_NUMBERS = 64  # of a game's state
LONGEST_UNIT = 64  # letters
LARGEST_SESSION = MB  # of a Wan moment: words, held keys, counters
SLOWEST, FASTEST = 0.01, 1000.0  # frames a second

# Scripts, timelines, trajectories, captions
LARGEST_SCRIPT = 16 * MB
LONGEST_STRETCH = 1_000_000  # frames that a line of a script may last
LONGEST_SCRIPT_FRAMES = 10_000_000
LONGEST_TIMELINE = 1e9  # seconds
LARGEST_TRAJECTORY = MB  # an hour of play
LARGEST_CAPTION = 64 * KB
LARGEST_NOTICE = MB  # a world's licences

# Pictures and videos
LARGEST_PICTURE_FILE = 256 * MB
MOST_PICTURE_PIXELS = 1 << 26
LONGEST_SIDE = 8192  # pixels
MOST_VIDEO_PIXELS = 1 << 25  # of a frame (8K has 33 million): decoders keep 17 of them
MOST_BOXES = 200_000  # of a video that is searched for whole fragments: a day of play
LARGEST_PICTURE = 64 * MB  # of a moment's frame

# Models
MOST_STEPS = 1000  # of denoising, where a person asks for them
MOST_THREADS = 1024  # of torch, or processes; the stacks of millions end the program
MOST_FOREIGN_STEPS = 128  # where a file does: each is a pass of the network, for every frame
FINEST_STEP = 1e-6  # of `latent_step`
LARGEST_CACHE = 16 * GB  # of keys and values, in fp32
LARGEST_WAN_CACHE = 128 * GB
MOST_WAN_LATENTS = 1 << 15  # rows x columns; 1080 x 1920 pixels have 32 400
LARGEST_WAN_STEP = 16 * GB  # what a step of a Wan decoder needs at its peak
MOST_SAID = 1 << 14  # different texts of a world, keys and openings together
LARGEST_ACTIVATION = 2 * GB  # between two layers of a decoder, of one frame
SPARE_CACHE, CACHE_PER_WEIGHT = GB, 64  # a world may ask for so much, and so much a byte it brings
