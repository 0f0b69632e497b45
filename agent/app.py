"""Put a trained or classical policy in front of live servers as an HTTP gateway.

python agent/app.py --policy sed-online
python agent/app.py --help
"""

from trimtab.cli.app import main

if __name__ == "__main__":
    raise SystemExit(main())
