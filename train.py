"""Train one model, or with -m many: python train.py -m modality=sensor,image,both film=true,false"""

import sys

from conveyorguard.cli import train_main

if __name__ == "__main__":
    sys.exit(train_main())
