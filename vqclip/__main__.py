from vqclip.cli.main import main

main()
