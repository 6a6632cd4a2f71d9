"""What a translation family's step costs beside the passes that it is made of, and pix2pix's beside a plain one."""
